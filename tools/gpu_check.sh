#!/usr/bin/env bash
# Builds Bezel on a machine with a GPU and checks what it computes there: `bezel doctor`, forward passes and gradients of the
# parity tests' models beside the answers of transformers + PEFT, and timed training steps, beside transformers + PEFT where
# Python has them. Writes gpu-check.json and gpu-check.md.
#
#   tools/gpu_check.sh [LIBTORCH]          unpacked from tools/gpu_bundle.sh's file, or in a checkout
#
# BEZEL_CHECK_DEVICE   device to check, default cuda
# BEZEL_CHECK_PLUGIN   library that brings this device (the simulated one of the tests), loaded before anything
# BEZEL_CHECK_BUILD    folder to build in, default build-gpu; a `bezel` that is there already is used as it is
# BEZEL_CHECK_OUT      folder for the two files, default .
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device=${BEZEL_CHECK_DEVICE:-cuda}
build=${BEZEL_CHECK_BUILD:-$root/build-gpu}
out=$(realpath -m "${BEZEL_CHECK_OUT:-.}")
python=${BEZEL_CHECK_PYTHON:-$(command -v python3 || true)}
goldens=${BEZEL_GOLDENS:-$root/goldens}

fail() {
  echo "gpu_check: $*" >&2
  exit 1
}
[ -n "$python" ] || fail "no python3, which compares and writes the page"
[ -d "$goldens" ] || fail "no models with answers in $goldens; unpack the file of tools/gpu_bundle.sh, or set BEZEL_GOLDENS"
libtorch=${1:-${LIBTORCH:-$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null || true)}}
[ -f "$libtorch/include/ATen/ATen.h" ] || fail "no LibTorch in '$libtorch'; give its folder (with include/ and lib/), or a python3 with torch"

if [ ! -x "$build/bezel" ]; then
  for tool in c++ cmake pkg-config; do command -v $tool >/dev/null || fail "no $tool here"; done
  echo 'int main() { return []<typename T>(T x) { return x; }(0); }' | c++ -std=c++20 -x c++ -fsyntax-only - || fail "$(c++ --version | head -1) knows no C++20"
  generator=(); command -v ninja >/dev/null && generator=(-G Ninja)
  export PKG_CONFIG_PATH="$root/deps/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
  cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DLIBTORCH="$libtorch" -DBEZEL_TESTS=OFF -DBEZEL_VIDEO=OFF \
    -DCMAKE_PREFIX_PATH="$root/deps" -DCMAKE_BUILD_RPATH="$root/deps/lib"
  cmake --build "$build" --target bezel_cli -j "$(nproc)"
fi
mkdir -p "$out"
plugin=(); [ -z "${BEZEL_CHECK_PLUGIN:-}" ] || plugin=(--plugin "$BEZEL_CHECK_PLUGIN")
"$python" "$root/tools/gpu_report.py" --bezel "$build/bezel" --device "$device" --goldens "$goldens" --out "$out" "${plugin[@]}"
