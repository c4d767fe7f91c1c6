#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// x * sigmoid(x), in float32, rounded once.
torch::Tensor silu(const torch::Tensor& x);

/// The gradient with respect to x, from dy of its shape.
torch::Tensor silu_backward(const torch::Tensor& x, const torch::Tensor& dy);

}  // namespace bezel::kernels
