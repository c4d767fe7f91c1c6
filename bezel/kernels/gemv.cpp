#include "bezel/kernels/gemv.h"

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
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

bool has_gemv_int8(const torch::Tensor& x, const torch::Tensor& codes) {
  return x.size(0) == 1 && x.size(1) % 64 == 0 && simd::takes({x}) && may_loop(codes) && codes.is_contiguous() &&
         codes.scalar_type() == torch::kChar;
}

torch::Tensor gemv_int8(const torch::Tensor& x, const torch::Tensor& codes, const torch::Tensor& scales, float factor) {
  TORCH_CHECK(has_gemv_int8(x, codes) && codes.size(1) == x.size(1) && scales.numel() == codes.size(0), x.sizes(),
              " times ", codes.sizes(), " with scales ", scales.sizes());
  const bool in_pairs = simd::has_bf16_products();
  const torch::Tensor halves = in_pairs ? x.view({-1, 2}).t().contiguous() : torch::Tensor();
  const torch::Tensor wide = in_pairs ? torch::Tensor() : x.to(torch::kFloat);
  const torch::Tensor row_scales = scales.to(torch::kFloat).contiguous();
  torch::Tensor y = at::empty({1, codes.size(0)}, x.options());
  const simd::Int8Gemv arguments{codes.const_data_ptr<std::int8_t>(),
                                 row_scales.const_data_ptr<float>(),
                                 factor,
                                 simd::data<float>(wide),
                                 simd::bf16(halves),
                                 x.size(1),
                                 simd::bf16(y)};
  simd::for_rows(simd::weight_kernels().int8_vector, arguments, codes.size(0), codes.size(1));
  return y;
}

torch::Tensor gemv_plain(const torch::Tensor& x, const torch::Tensor& w) {
  return at::mm(x.to(torch::kFloat), w.to(torch::kFloat).t()).to(x.scalar_type());
}

}  // namespace bezel::kernels
