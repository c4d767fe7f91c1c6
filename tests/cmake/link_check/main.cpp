#include <cstdlib>

#include <ATen/Functions.h>

// 0 when LibTorch computes and the library that stands for libtorch_cuda was loaded with it.
int main() {
  const bool computes = at::ones({2, 3}).sum().item<float>() == 6.0f;
  const bool cuda_loaded = std::getenv("BEZEL_FAKE_CUDA_LOADED") != nullptr;
  return computes && cuda_loaded ? 0 : 1;
}
