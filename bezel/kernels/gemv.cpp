#include "bezel/kernels/gemv.h"

#include <ATen/ATen.h>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

bool has_gemv(const torch::Tensor& x, const torch::Tensor& w) { return x.size(0) == 1 && simd::takes({x, w}); }

torch::Tensor gemv(const torch::Tensor& x, const torch::Tensor& w) {
  TORCH_CHECK(has_gemv(x, w) && w.size(1) == x.size(1), x.sizes(), " times ", w.sizes());
  torch::Tensor y = at::empty({1, w.size(0)}, x.options());
  const simd::Gemv arguments{simd::bf16(w), simd::bf16(x), w.size(1), simd::bf16(y)};
  simd::for_rows(simd::weight_kernels().vector, arguments, w.size(0), w.size(1));
  return y;
}

torch::Tensor gemv_plain(const torch::Tensor& x, const torch::Tensor& w) {
  return at::mm(x.to(torch::kFloat), w.to(torch::kFloat).t()).to(x.scalar_type());
}

}  // namespace bezel::kernels
