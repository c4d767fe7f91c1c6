#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// a * sigmoid(b), then a causal convolution of each channel along time, in float32, rounded once: y[t] is the sum over
/// taps of the gated row t - width + 1 + tap times weight[tap]. x [T, 2 H] holds a, then b; weight [width, H] -> [T,
/// H].
torch::Tensor gated_conv(const torch::Tensor& x, const torch::Tensor& weight);

/// The gradient with respect to x, from dy [T, H].
torch::Tensor gated_conv_backward(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& dy);

/// The same in ATen's operators, through which gradients flow; on any device, and the reference for its test. There the
/// gated rows are rounded to x's dtype, as in Gemma4AudioLightConv1d.
torch::Tensor gated_conv_plain(const torch::Tensor& x, const torch::Tensor& weight);

/// The same with ATen's convolution by channels, which devices have as one kernel.
torch::Tensor gated_conv_on_device(const torch::Tensor& x, const torch::Tensor& weight);

/// Whether the loops take x.
bool has_gated_conv(const torch::Tensor& x);

}  // namespace bezel::kernels
