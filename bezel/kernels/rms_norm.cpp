#include "bezel/kernels/rms_norm.h"

#include <ATen/ATen.h>
#include <torch/version.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

using torch::Tensor;

Normed rms_norm_plain(const Tensor& x, const Tensor& weight, const Tensor& residual, double eps) {
  const Tensor wide = x.to(torch::kFloat);
  // pow(-0.5) rather than rsqrt: the reference rounds that way.
  const Tensor inverse = at::pow(wide.square().mean(-1, /*keepdim=*/true) + eps, -0.5);
  Tensor y = wide * inverse;
  if (weight.defined()) y.mul_(weight);
  if (residual.defined()) y.add_(residual);
  return {y.to(x.scalar_type()), inverse.view({-1, 1})};
}

Tensor rms_norm_backward_plain(const Tensor& x, const Tensor& weight, const Tensor& inverse, const Tensor& dy) {
  Tensor wide = dy.to(torch::kFloat).reshape({-1, x.size(-1)});
  if (weight.defined()) wide = wide * weight;
  const Tensor normed = x.to(torch::kFloat).reshape({-1, x.size(-1)}) * inverse;
  const Tensor along = (wide * normed).mean(-1, /*keepdim=*/true);
  return (wide - normed * along).mul_(inverse).to(x.scalar_type()).view(x.sizes());
}

namespace {

// One kernel of ATen's on a device, which computes in float32 but reads a weight of x's dtype alone. On the CPU, where
// its power is rounded otherwise, the reference's operators.
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
bool has_fused_norm(const Tensor& x) { return !may_loop(x) && !x.is_meta(); }

torch::ScalarType norm_dtype(const Tensor& x, const Tensor& weight) {
  return weight.defined() ? weight.scalar_type() : x.scalar_type();
}

Normed fused_norm(const Tensor& x, const Tensor& weight, const Tensor& residual, double eps) {
  const std::optional<Tensor> scale = weight.defined() ? std::optional(weight) : std::nullopt;
  auto [y, inverse] = at::_fused_rms_norm(x.to(norm_dtype(x, weight)), {x.size(-1)}, scale, eps);
  if (residual.defined()) y.add_(residual);
  return {y.to(x.scalar_type()), inverse.view({-1, 1})};
}

Tensor fused_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& inverse, const Tensor& dy) {
  std::vector<std::int64_t> rows = x.sizes().vec();
  rows.back() = 1;
  const std::optional<Tensor> scale = weight.defined() ? std::optional(weight) : std::nullopt;
  const auto dtype = norm_dtype(x, weight);
  const auto both =
      at::_fused_rms_norm_backward(dy.to(dtype), x.to(dtype), {x.size(-1)}, inverse.view(rows), scale, {true, false});
  return std::get<0>(both).to(x.scalar_type());
}
#endif

}  // namespace

Tensor norm_weight(const Tensor& x, const Tensor& weight) {
  if (!weight.defined()) return weight;
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  if (has_fused_norm(x) && weight.scalar_type() == x.scalar_type()) return weight;
#endif
  return weight.to(torch::kFloat);
}

Normed rms_norm(const Tensor& given, const Tensor& weight, const Tensor& residual, double eps) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  if (has_fused_norm(given)) return fused_norm(given, weight, residual, eps);
#endif
  const Tensor x = given.contiguous();
  const Tensor added = residual.defined() ? residual.contiguous() : residual;
  if (!simd::takes({x, added})) return rms_norm_plain(given, weight, residual, eps);
  const std::int64_t columns = x.size(-1), rows = x.numel() / std::max<std::int64_t>(columns, 1);
  Normed out{at::empty_like(x), at::empty({rows, 1}, x.options().dtype(torch::kFloat))};
  const simd::RmsNorm arguments{simd::bf16(x),
                                simd::data<float>(weight),
                                simd::bf16(added),
                                columns,
                                eps,
                                simd::bf16(out.y),
                                simd::data<float>(out.inverse),
                                nullptr};
  simd::for_rows(simd::row_kernels().rms_norm, arguments, rows, columns);
  return out;
}

Tensor rms_norm_backward(const Tensor& given, const Tensor& weight, const Tensor& inverse, const Tensor& gradient) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  if (has_fused_norm(given)) return fused_norm_backward(given, weight, inverse, gradient);
#endif
  const Tensor x = given.contiguous(), dy = gradient.contiguous();
  if (!simd::takes({x, dy})) return rms_norm_backward_plain(given, weight, inverse, gradient);
  const std::int64_t columns = x.size(-1), rows = x.numel() / std::max<std::int64_t>(columns, 1);
  Tensor dx = at::empty_like(x);
  const simd::RmsNorm arguments{simd::bf16(x),  simd::data<float>(weight),  nullptr,       columns, 0.0,
                                simd::bf16(dy), simd::data<float>(inverse), simd::bf16(dx)};
  simd::for_rows(simd::row_kernels().rms_norm_backward, arguments, rows, columns);
  return dx;
}

}  // namespace bezel::kernels
