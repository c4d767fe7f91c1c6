#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// cross_entropy() against labels that are smoothed: of each row's weight, `smoothing` is spread evenly over all V
/// tokens. Sum over rows of -(1 - smoothing) log p[label] - smoothing mean(log p), in float32. logits [N, V] are
/// overwritten as there. Reference: transformers' LabelSmoother.
torch::Tensor smoothed_cross_entropy(torch::Tensor& logits, const torch::Tensor& labels, double cap, double smoothing,
                                     bool gradient);

}  // namespace bezel::kernels
