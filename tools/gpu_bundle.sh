#!/usr/bin/env bash
# Packs what tools/gpu_check.sh needs on a machine with a GPU and without a network: the sources, the libraries that Bezel is
# built on (static where the system has them so) with their headers, and the checks' models with transformers' answers.
#
#   tools/gpu_bundle.sh [OUT.tar.gz]       default dist/bezel-gpu.tar.gz
#
# The machine there needs a compiler for C++20, cmake, pkg-config and a LibTorch or torch, of glibc no older than here.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:-$root/dist/bezel-gpu.tar.gz}")
most_mib=40
packages="nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev libwebp-dev libtiff-dev
  libsndfile1-dev libsoxr-dev libzstd-dev"
static="yaml-cpp jpeg png16 z webp webpdemux tiff Lerc jbig lzma deflate zstd"
shared="sndfile soxr"  # which Debian has as shared libraries alone

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/bezel-gpu
deps=$top/deps
mkdir -p "$deps"/{include,lib/pkgconfig,share/cmake/yaml-cpp}

git -C "$root" archive HEAD -- CMakeLists.txt bezel cli cmake demo/model demo/doctor.safetensors tools LICENSE README.md | tar -x -C "$top"

multiarch=$(cc -print-multiarch)
for package in $packages; do
  dpkg -L "$package" >/dev/null 2>&1 || { echo "gpu_bundle: package $package is not installed here" >&2; exit 1; }
  while read -r file; do
    [ -f "$file" ] || continue
    case $file in
      /usr/include/"$multiarch"/*) to=$deps/include/${file#/usr/include/"$multiarch"/} ;;
      /usr/include/*) to=$deps/include/${file#/usr/include/} ;;
      /usr/share/cmake/*) to=$deps/share/cmake/${file#/usr/share/cmake/} ;;
      *) continue ;;
    esac
    install -D -m 644 "$file" "$to"
  done < <(dpkg -L "$package")
done

for library in $static; do cp -L "/usr/lib/$multiarch/lib$library.a" "$deps/lib/"; done
ln -s libpng16.a "$deps/lib/libpng.a"
for library in $shared; do
  file=$(ldconfig -p | awk -v name="lib$library.so" 'index($1, name".") == 1 {print $NF; exit}')
  [ -n "$file" ] || { echo "gpu_bundle: no lib$library here" >&2; exit 1; }
  cp -L "$file" "$deps/lib/"
  ln -s "$(basename "$file")" "$deps/lib/lib$library.so"
  # What it needs in turn, but for what belongs to the system and the compiler.
  ldd "$file" | awk '$3 ~ /^\// && $3 !~ /\/(libc|libm|libdl|libpthread|libgomp|libgcc_s|libstdc\+\+)\.so/ {print $3}' |
    while read -r needed; do cp -L "$needed" "$deps/lib/"; done
done

cat > "$deps/share/cmake/yaml-cpp/yaml-cpp-config.cmake" <<'CMAKE'
get_filename_component(_deps "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
add_library(yaml-cpp STATIC IMPORTED)
set_target_properties(yaml-cpp PROPERTIES IMPORTED_LOCATION "${_deps}/lib/libyaml-cpp.a"
  INTERFACE_INCLUDE_DIRECTORIES "${_deps}/include" INTERFACE_COMPILE_DEFINITIONS YAML_CPP_STATIC_DEFINE)
CMAKE
describe() {  # name version libraries
  cat > "$deps/lib/pkgconfig/$1.pc" <<PC
prefix=\${pcfiledir}/../..
Name: $1
Description: $1
Version: $2
Libs: -L\${prefix}/lib $3
Cflags: -I\${prefix}/include
PC
}
describe libwebp "$(pkg-config --modversion libwebp)" "-lwebp -lm"
describe libwebpdemux "$(pkg-config --modversion libwebpdemux)" "-lwebpdemux -lwebp -lm"
describe libtiff-4 "$(pkg-config --modversion libtiff-4)" "-ltiff -lwebp -lLerc -ljbig -llzma -ljpeg -ldeflate -lzstd -lz -lm"
describe sndfile "$(pkg-config --modversion sndfile)" "-lsndfile"
describe soxr "$(pkg-config --modversion soxr)" "-lsoxr"
describe libzstd "$(pkg-config --modversion libzstd)" "-lzstd"

# Models of the parity tests with the answers of transformers + PEFT in float32.
goldens=${BEZEL_GOLDENS:-$root/build-dev/reference/seed0}
if [ ! -d "$goldens" ]; then
  goldens=$work/goldens
  "$root/.venv/bin/python3" "$root/tools/make_reference.py" "$goldens" --seed 0 --presets e2b dense moe
fi
for preset in e2b dense moe; do
  mkdir -p "$top/goldens/$preset"
  cp -r "$goldens/$preset/model" "$goldens/$preset/adapter" "$top/goldens/$preset/"
done
"$root/.venv/bin/python3" "$root/tools/gpu_report.py" --pack "$goldens" "$top/goldens"

mkdir -p "$(dirname "$out")"
tar -C "$work" -czf "$out" bezel-gpu
mib=$(( ($(stat -c %s "$out") + 1048575) / 1048576 ))
echo "$out: $mib MiB"
[ "$mib" -le "$most_mib" ] || { echo "gpu_bundle: more than $most_mib MiB" >&2; exit 1; }
