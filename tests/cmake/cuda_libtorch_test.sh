#!/usr/bin/env bash
# A CUDA build of LibTorch on a machine without a CUDA toolkit, simulated: its TorchConfig.cmake fails, and its libtorch.so
# depends on a libtorch_cuda.so. Bezel must configure on it, a program must link, and loading it must load libtorch_cuda.
#   cuda_libtorch_test.sh SOURCE_DIR REAL_LIBTORCH
set -euo pipefail
source_dir="$1"
real="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

fake="$work/libtorch"
mkdir -p "$fake/lib" "$fake/share/cmake/Torch"
ln -s "$real/include" "$fake/include"
for library in "$real"/lib/*.so*; do ln -s "$library" "$fake/lib/"; done
echo 'message(FATAL_ERROR "this LibTorch demands a CUDA toolkit")' >"$fake/share/cmake/Torch/TorchConfig.cmake"

rm -f "$fake/lib/libtorch.so"
cat >"$work/cuda.cpp" <<'CPP'
#include <cstdlib>
__attribute__((constructor)) static void loaded() { setenv("BEZEL_FAKE_CUDA_LOADED", "1", 1); }
CPP
echo >"$work/empty.cpp"
g++ -shared -fPIC "$work/cuda.cpp" -o "$fake/lib/libtorch_cuda.so"
# Like the real one: nothing but its dependencies.
g++ -shared -fPIC "$work/empty.cpp" -o "$fake/lib/libtorch.so" -Wl,-soname,libtorch.so -Wl,--no-as-needed \
  -L"$fake/lib" -ltorch_cuda -ltorch_cpu -lc10 -Wl,-rpath,"$fake/lib" -Wl,--allow-shlib-undefined

cmake -G Ninja -S "$source_dir" -B "$work/bezel" -DLIBTORCH="$fake" -DBEZEL_TESTS=OFF
cmake -G Ninja -S "$source_dir/tests/cmake/link_check" -B "$work/check" -DLIBTORCH="$fake"
cmake --build "$work/check"
"$work/check/link_check"
