#include "bezel/nn/device_experts.h"

#include <ATen/ATen.h>
#include <torch/version.h>

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kRankStep = 8;  // 16 bytes of bfloat16

Tensor grouped(const Tensor& a, const Tensor& b, const Tensor& ends) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  return at::_grouped_mm(a, b, ends);
#else
  TORCH_CHECK(false, "this LibTorch multiplies no groups");
#endif
}

// [S, m], [S, n] -> [E, m, n], summed over the rows of each expert; zero for experts without rows, whatever the product
// leaves there.
Tensor summed_by_expert(const Tensor& x, const Tensor& y, const Tensor& ends) {
  const Tensor sums = grouped(x.t(), y, ends);
  const Tensor begins = at::constant_pad_nd(ends.slice(0, 0, -1), {1, 0});
  return at::where((ends == begins).view({-1, 1, 1}), at::zeros({}, sums.options()), sums);
}

}  // namespace

bool has_device_experts() { return TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10; }

RowGroups group_rows_on_device(const Tensor& chosen, std::int64_t num_experts) {
  const Tensor expert = chosen.flatten();
  const auto order = at::sort(expert, /*stable=*/true, 0, /*descending=*/false);
  RowGroups rows;
  rows.slot = std::get<1>(order);
  rows.source = at::div(rows.slot, chosen.size(1), "floor");
  rows.place = at::empty_like(rows.slot).scatter_(0, rows.slot, at::arange(expert.size(0), expert.options()));
  const Tensor last = at::arange(num_experts, expert.options());
  rows.ends = at::searchsorted(std::get<0>(order), last, /*out_int32=*/true, /*right=*/true);
  return rows;
}

DeviceFactors device_factors(const Tensor& a, const Tensor& b, std::int64_t num_experts, double scale,
                             torch::ScalarType dtype) {
  const std::int64_t rank = a.size(0) / num_experts, missing = (kRankStep - rank % kRankStep) % kRankStep;
  DeviceFactors factors{a.to(dtype).view({num_experts, rank, a.size(1)}),
                        b.to(dtype).view({b.size(0), rank, num_experts}).permute({2, 0, 1}), scale};
  if (missing > 0) {
    factors.a = at::constant_pad_nd(factors.a, {0, 0, 0, missing});
    factors.b = at::constant_pad_nd(factors.b, {0, missing});
  }
  factors.b = factors.b.contiguous();
  return factors;
}

Tensor experts_product(const Tensor& x, const quant::Weight& stack, const Tensor& ends, const DeviceFactors* factors,
                       Tensor& h) {
  Tensor y = grouped(x, stack.dequantize(x.scalar_type()).transpose(1, 2), ends);
  if (factors == nullptr) return y;
  h = grouped(x, factors->a.transpose(1, 2), ends);
  return y.add_(grouped(h, factors->b.transpose(1, 2), ends), factors->scale);
}

DeviceGradients experts_product_backward(const Tensor& dy, const Tensor& x, const Tensor& h, const quant::Weight& stack,
                                         const Tensor& ends, const DeviceFactors* factors, std::int64_t rank,
                                         bool wants_input) {
  DeviceGradients out;
  if (wants_input) out.x = grouped(dy, stack.dequantize(dy.scalar_type()), ends);
  if (factors == nullptr) return out;
  const std::int64_t num_experts = ends.size(0);
  const Tensor dh = grouped(dy, factors->b, ends).mul_(factors->scale);  // [S, r]
  if (wants_input) out.x.add_(grouped(dh, factors->a, ends));
  const Tensor da = summed_by_expert(dh, x, ends).narrow(1, 0, rank);                      // [E, r, in]
  const Tensor db = summed_by_expert(dy, h.mul(factors->scale), ends).narrow(2, 0, rank);  // [E, out, r]
  out.a = da.to(torch::kFloat).reshape({num_experts * rank, x.size(1)});
  out.b = db.permute({1, 2, 0}).to(torch::kFloat).reshape({dy.size(1), rank * num_experts});
  return out;
}

}  // namespace bezel::nn
