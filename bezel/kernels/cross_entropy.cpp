#include "bezel/kernels/cross_entropy.h"

#include <ATen/ATen.h>

#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::kernels {

using torch::Tensor;

namespace {

Tensor rows_plain(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  prepare_vector_math();
  Tensor capped = logits.to(torch::kFloat), turned;  // [N, V]
  if (cap != 0.0) {
    turned = at::tanh(capped / cap);
    capped = turned * cap;
  }
  const Tensor label = labels.unsqueeze(1);
  Tensor log_probability = at::log_softmax(capped, 1);
  const Tensor loss = log_probability.gather(1, label).squeeze(1).neg();  // [N]
  if (!gradient) return loss;
  Tensor grad = log_probability.exp_();
  grad.scatter_add_(1, label, at::full_like(label, -1, grad.options()));
  if (cap != 0.0) grad.mul_(turned.square_().neg_().add_(1.0));  // d tanh
  logits.copy_(grad);
  return loss;
}

// In float64; nothing where the loops do not take these tensors.
Tensor rows_by_loops(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  if (!simd::takes({logits}) || !labels.is_contiguous()) return {};
  const Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(torch::kDouble));
  const simd::CrossEntropy arguments{simd::bf16(logits),      simd::data<std::int64_t>(labels), logits.size(1),
                                     static_cast<float>(cap), simd::data<double>(losses),       gradient};
  simd::for_rows(simd::row_kernels().cross_entropy, arguments, logits.size(0), logits.size(1));
  return losses;
}

}  // namespace

Tensor cross_entropy_plain(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  return rows_plain(logits, labels, cap, gradient).sum();
}

Tensor cross_entropy(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  const Tensor losses = rows_by_loops(logits, labels, cap, gradient);
  if (!losses.defined()) return cross_entropy_plain(logits, labels, cap, gradient);
  return losses.sum().to(torch::kFloat);
}

Tensor cross_entropy_rows(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  const Tensor losses = rows_by_loops(logits, labels, cap, gradient);
  return losses.defined() ? losses.to(torch::kFloat) : rows_plain(logits, labels, cap, gradient);
}

}  // namespace bezel::kernels
