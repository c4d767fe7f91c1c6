#include "bezel/kernels/cross_entropy.h"

#include <ATen/ATen.h>

#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::kernels {

using torch::Tensor;

namespace {

// log softmax of softcapped logits in float32, and the way back to them.
class LogSoftmax {
 public:
  LogSoftmax(const Tensor& logits, double cap) {
    prepare_vector_math();
    Tensor capped = logits.to(torch::kFloat);
    if (cap != 0.0) {
      tanh_ = at::tanh(capped / cap);
      capped = tanh_ * cap;
    }
    values_ = at::log_softmax(capped, 1);
  }

  const Tensor& values() const { return values_; }  // [N, V]
  // Overwrites `logits` with the gradient of a loss: p - `even`, and of each label `at_label` in addition.
  void put_gradient(const Tensor& label, double at_label, double even, Tensor& logits) {
    Tensor grad = values_.exp_();
    if (even != 0.0) grad.sub_(even);
    grad.scatter_add_(1, label, at::full_like(label, at_label, grad.options()));
    if (tanh_.defined()) grad.mul_(tanh_.square_().neg_().add_(1.0));  // d tanh
    logits.copy_(grad);
  }

 private:
  Tensor tanh_, values_;
};

Tensor rows_plain(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  LogSoftmax log_softmax(logits, cap);
  const Tensor label = labels.unsqueeze(1);
  const Tensor loss = log_softmax.values().gather(1, label).squeeze(1).neg();  // [N]
  if (gradient) log_softmax.put_gradient(label, -1.0, 0.0, logits);
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

Tensor smoothed_cross_entropy(Tensor& logits, const Tensor& labels, double cap, double smoothing, bool gradient) {
  LogSoftmax log_softmax(logits, cap);
  const Tensor label = labels.unsqueeze(1), &log_p = log_softmax.values();
  const Tensor hard = log_p.gather(1, label).sum(), even = log_p.mean(1).sum();
  const Tensor loss = (hard * (1.0 - smoothing) + even * smoothing).neg();
  if (gradient)
    log_softmax.put_gradient(label, smoothing - 1.0, smoothing / static_cast<double>(logits.size(1)), logits);
  return loss;
}

Tensor cross_entropy_rows(Tensor& logits, const Tensor& labels, double cap, bool gradient) {
  const Tensor losses = rows_by_loops(logits, labels, cap, gradient);
  return losses.defined() ? losses.to(torch::kFloat) : rows_plain(logits, labels, cap, gradient);
}

}  // namespace bezel::kernels
