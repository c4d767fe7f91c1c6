#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Sum over rows of -log softmax(cap · tanh(logits / cap))[label], in float32; cap 0: no cap. logits [N, V] are
/// overwritten: with `gradient` by the sum's gradient with respect to them, otherwise by anything. labels int64 [N].
/// Returns a float32 scalar.
torch::Tensor cross_entropy(torch::Tensor& logits, const torch::Tensor& labels, double cap, bool gradient);

/// The same for each row by itself: float32 [N]; with `gradient` each row of logits becomes the gradient of its own
/// value.
torch::Tensor cross_entropy_rows(torch::Tensor& logits, const torch::Tensor& labels, double cap, bool gradient);

/// cross_entropy() against labels that are smoothed: of each row's weight, `smoothing` is spread evenly over all V
/// tokens. Sum over rows of -(1 - smoothing) log p[label] - smoothing mean(log p), in float32. logits [N, V] are
/// overwritten as there. Reference: transformers' LabelSmoother.
torch::Tensor smoothed_cross_entropy(torch::Tensor& logits, const torch::Tensor& labels, double cap, double smoothing,
                                     bool gradient);

/// cross_entropy in ATen's operators, on any device; the reference for its test.
torch::Tensor cross_entropy_plain(torch::Tensor& logits, const torch::Tensor& labels, double cap, bool gradient);

}  // namespace bezel::kernels
