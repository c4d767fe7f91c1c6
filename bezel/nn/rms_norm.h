#pragma once

#include <torch/nn/pimpl.h>

#include "bezel/nn/functional.h"
#include "bezel/nn/layer_input.h"
#include "bezel/nn/module.h"

namespace bezel::nn {

/// rms_norm with its frozen `weight` [H]. Reference: Gemma4RMSNorm.
class RmsNormImpl : public Module {
 public:
  RmsNormImpl(std::int64_t hidden_size, double eps) : eps(eps) { expect("weight", {hidden_size}, weight); }

  /// x [..., H] -> [..., H], x's dtype.
  torch::Tensor forward(const torch::Tensor& x) { return rms_norm(x, weight, eps); }
  /// forward(x) for layers that make it again in the backward pass.
  LayerInput input(const torch::Tensor& x) const { return LayerInput::normed(x, weight, eps); }
  /// residual + forward(x), rounded once.
  torch::Tensor add_to(const torch::Tensor& residual, const torch::Tensor& x) {
    return rms_norm(x, weight, eps, residual);
  }

  torch::Tensor weight;  // [H]
  double eps;
};
TORCH_MODULE(RmsNorm);

}  // namespace bezel::nn
