#include "bezel/kernels/smoothed_cross_entropy.h"

#include <ATen/ATen.h>

#include "bezel/kernels/vector_math.h"

namespace bezel::kernels {

using torch::Tensor;

Tensor smoothed_cross_entropy(Tensor& logits, const Tensor& labels, double cap, double smoothing, bool gradient) {
  prepare_vector_math();
  Tensor capped = logits.to(torch::kFloat), turned;  // [N, V]
  if (cap != 0.0) {
    turned = at::tanh(capped / cap);
    capped = turned * cap;
  }
  const Tensor label = labels.unsqueeze(1);
  Tensor log_probability = at::log_softmax(capped, 1);
  const Tensor hard = log_probability.gather(1, label).sum(), even = log_probability.mean(1).sum();
  const Tensor loss = (hard * (1.0 - smoothing) + even * smoothing).neg();
  if (!gradient) return loss;
  Tensor grad = log_probability.exp_();
  grad.sub_(smoothing / static_cast<double>(logits.size(1)));
  grad.scatter_add_(1, label, at::full_like(label, smoothing - 1.0, grad.options()));
  if (cap != 0.0) grad.mul_(turned.square_().neg_().add_(1.0));  // d tanh
  logits.copy_(grad);
  return loss;
}

}  // namespace bezel::kernels
