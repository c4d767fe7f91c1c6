#include "bezel/nn/dora.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kElementsAtATime = std::int64_t{1} << 22;

// |W_j|^2 of all rows; a few rows are dequantized at a time.
Tensor row_squares(const quant::Weight& weight) {
  const std::int64_t rows = weight.shape()[0], columns = weight.shape()[1];
  const std::int64_t step = std::clamp<std::int64_t>(kElementsAtATime / std::max<std::int64_t>(columns, 1), 1, rows);
  const auto options = at::TensorOptions(weight.device());
  Tensor squares = at::empty({rows}, options.dtype(torch::kDouble));
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t end = std::min(begin + step, rows);
    const Tensor some = weight.rows(at::arange(begin, end, options.dtype(torch::kLong)), torch::kFloat);
    squares.slice(0, begin, end).copy_(some.square().sum(1, /*keepdim=*/false, torch::kDouble));
  }
  return squares;
}

}  // namespace

std::vector<Tensor> Adapter::tensors() const {
  return magnitude.defined() ? std::vector<Tensor>{a, b, magnitude} : std::vector<Tensor>{a, b};
}

Tensor Adapter::whole_a() const { return start_a.defined() ? at::cat({a, start_a}) : a; }

Tensor Adapter::whole_b() const { return start_b.defined() ? at::cat({b, start_b}, 1) : b; }

Tensor EffectiveNorms::of(const Adapter& adapter, const quant::Weight& weight) {
  const at::NoGradGuard no_grad;
  const Tensor &a = adapter.a, &b = adapter.b;
  const void *a_now = a.unsafeGetTensorImpl(), *b_now = b.unsafeGetTensorImpl();
  const std::uint64_t a_version = a._version(), b_version = b._version();
  if (norms_.defined() && a_ == a_now && b_ == b_now && a_version_ == a_version && b_version_ == b_version)
    return norms_;
  if (!squares_.defined()) squares_ = row_squares(weight);
  // |W_j + s B_j A|^2 = |W_j|^2 + 2 s (W A^T)_j . B_j + s^2 B_j (A A^T) B_j^T
  const Tensor a_wide = a.to(torch::kDouble), b_wide = b.to(torch::kDouble) * adapter.scale;
  const Tensor along = weight.matmul(a.detach()).t().to(torch::kDouble);  // [out, r]
  const Tensor sums = ((along * 2).add_(b_wide.mm(a_wide.mm(a_wide.t()))) * b_wide).sum(1);
  norms_ = squares_.add(sums).clamp_min_(0).sqrt_().to(torch::kFloat);
  a_ = a_now;
  b_ = b_now;
  a_version_ = a_version;
  b_version_ = b_version;
  return norms_;
}

Tensor effective_norms(Adapter& adapter, const quant::Weight& weight) {
  if (!adapter.norms) adapter.norms = std::make_shared<EffectiveNorms>();
  return adapter.norms->of(adapter, weight);
}

void add_magnitude(Adapter& adapter, const quant::Weight& weight) {
  adapter.magnitude = effective_norms(adapter, weight).clone().requires_grad_();
}

void scale_rows(Tensor& rows, const Tensor& magnitude, std::int64_t begin) {
  const Tensor norms = rows.norm(2, {1}, /*keepdim=*/true);  // [N, 1]
  rows.mul_(magnitude.detach().narrow(0, begin, rows.size(0)).unsqueeze(1) / norms);
}

}  // namespace bezel::nn
