#include "bezel/kernels/simd/functions.h"

#include <algorithm>
#include <string>

#include <ATen/Version.h>

namespace bezel::kernels::simd {

const Functions& functions() {
  static const Functions& chosen = []() -> const Functions& {
#if defined(__x86_64__)
    const std::string capability = at::get_cpu_capability();
    if (capability == "AVX512") return avx512_functions();
    if (capability == "AVX2") return avx2_functions();
#endif
    return baseline_functions();
  }();
  return chosen;
}

void (*product())(const Product&) {
  static auto* const chosen = []() -> void (*)(const Product&) {
#if defined(__x86_64__)
    const std::string capability = at::get_cpu_capability();
    if (capability == "AVX512") return __builtin_cpu_supports("avx512bf16") ? avx512bf16_product : avx512_product;
    if (capability == "AVX2") return avx2_product;
#endif
    return baseline_product;
  }();
  return chosen;
}

bool takes(std::initializer_list<torch::Tensor> tensors) {
  return std::ranges::all_of(tensors, [](const torch::Tensor& tensor) {
    return !tensor.defined() || (tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == torch::kBFloat16);
  });
}

}  // namespace bezel::kernels::simd
