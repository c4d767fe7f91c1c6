#pragma once

#include <vector>

#include "bezel/gemma4/model.h"

namespace bezel::test {

/// The tiny three-tower model in float32 with adapters everywhere, none of whose B is zero, in training mode;
/// `bidirectional`: sliding layers see images both ways.
gemma4::Model adapted_model(double dropout, bool bidirectional = false);

/// The loss and, after its backward pass, the gradient of every adapter tensor, each of which must have one.
std::vector<torch::Tensor> gradients(gemma4::Model& model, const torch::Tensor& loss);

/// Relative error of all tensors together; of each alone a hundred times that, since small ones hold more rounding.
void expect_close(const std::vector<torch::Tensor>& got, const std::vector<torch::Tensor>& wanted, double relative);

}  // namespace bezel::test
