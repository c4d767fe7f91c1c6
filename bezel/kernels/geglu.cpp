#include "bezel/kernels/geglu.h"

#include <ATen/ATen.h>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

using torch::Tensor;

Tensor geglu_plain(const Tensor& gate, const Tensor& up) { return at::gelu(gate, "tanh").mul_(up); }

std::pair<Tensor, Tensor> geglu_backward_plain(const Tensor& gate, const Tensor& up, const Tensor& dy) {
  return {at::gelu_backward(dy * up, gate, "tanh"), dy * at::gelu(gate, "tanh")};
}

Tensor geglu(const Tensor& gate, const Tensor& up) {
  if (!simd::takes({gate, up})) return geglu_plain(gate, up);
  Tensor y = at::empty_like(gate);
  const simd::Geglu arguments{simd::bf16(gate), simd::bf16(up), simd::bf16(y), nullptr, nullptr, nullptr};
  simd::for_rows(simd::row_kernels().geglu, arguments, gate.numel(), 1);
  return y;
}

std::pair<Tensor, Tensor> geglu_backward(const Tensor& gate, const Tensor& up, const Tensor& gradient,
                                         const Tensor& activated) {
  if (activated.defined()) return {at::gelu_backward(gradient * up, gate, "tanh"), gradient * activated};
  const Tensor dy = gradient.contiguous();
  if (!simd::takes({gate, up, dy})) return geglu_backward_plain(gate, up, gradient);
  std::pair<Tensor, Tensor> out{at::empty_like(gate), at::empty_like(up)};
  const simd::Geglu arguments{simd::bf16(gate), simd::bf16(up),        nullptr,
                              simd::bf16(dy),   simd::bf16(out.first), simd::bf16(out.second)};
  simd::for_rows(simd::row_kernels().geglu_backward, arguments, gate.numel(), 1);
  return out;
}

}  // namespace bezel::kernels
