#include "bezel/kernels/silu.h"

#include <ATen/ATen.h>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

using torch::Tensor;

Tensor silu(const Tensor& x) {
  if (!simd::takes({x})) return at::silu(x);
  Tensor y = at::empty_like(x);
  simd::for_rows(simd::row_kernels().silu, simd::Silu{simd::bf16(x), nullptr, simd::bf16(y)}, x.numel(), 1);
  return y;
}

Tensor silu_backward(const Tensor& x, const Tensor& gradient) {
  const Tensor dy = gradient.contiguous();
  if (!simd::takes({x, dy})) return at::silu_backward(gradient, x);
  Tensor dx = at::empty_like(x);
  simd::for_rows(simd::row_kernels().silu_backward, simd::Silu{simd::bf16(x), simd::bf16(dy), simd::bf16(dx)},
                 x.numel(), 1);
  return dx;
}

}  // namespace bezel::kernels
