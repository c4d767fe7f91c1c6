#pragma once

#include <utility>

#include <torch/types.h>

namespace bezel::kernels {

/// gelu_tanh(gate) * up, in float32, rounded once; both of one shape and dtype.
torch::Tensor geglu(const torch::Tensor& gate, const torch::Tensor& up);

/// Gradients with respect to gate and up, from dy of their shape. `activated` is gelu_tanh(gate) where somebody has it,
/// which spares a device a kernel.
std::pair<torch::Tensor, torch::Tensor> geglu_backward(const torch::Tensor& gate, const torch::Tensor& up,
                                                       const torch::Tensor& dy, const torch::Tensor& activated = {});

/// The same in ATen's operators, on any device; the reference for its test.
torch::Tensor geglu_plain(const torch::Tensor& gate, const torch::Tensor& up);
std::pair<torch::Tensor, torch::Tensor> geglu_backward_plain(const torch::Tensor& gate, const torch::Tensor& up,
                                                             const torch::Tensor& dy);

}  // namespace bezel::kernels
