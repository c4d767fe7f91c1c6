#include "bezel/kernels/rms_norm.h"

#include <ATen/ATen.h>

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

Normed rms_norm(const Tensor& given, const Tensor& weight, const Tensor& residual, double eps) {
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
