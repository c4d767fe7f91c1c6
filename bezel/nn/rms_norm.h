#pragma once

#include <torch/nn/pimpl.h>

#include "bezel/nn/functional.h"
#include "bezel/nn/fused_input.h"
#include "bezel/nn/module.h"

namespace bezel::nn {

/// How the factor that a norm applies comes from the weight that is stored: (weight + offset) * scale.
struct NormForm {
  double offset = 0.0;
  double scale = 1.0;
};

/// rms_norm with its frozen `weight` [H], in float32 as it is multiplied in. References: Gemma4RMSNorm, Gemma3RMSNorm.
class RmsNormImpl : public Module {
 public:
  RmsNormImpl(std::int64_t hidden_size, double eps, NormForm form = {}) : eps(eps) {
    const auto assign = [this, form](const torch::Tensor& stored) {
      weight = (stored.to(torch::kFloat) + form.offset) * form.scale;
    };
    add_slot({.name = "weight", .shape = {hidden_size}, .assign = assign, .assign_weight = nullptr, .wide = true});
  }

  /// x [..., H] -> [..., H], x's dtype.
  torch::Tensor forward(const torch::Tensor& x) { return rms_norm(x, weight, eps); }
  /// forward(x) for layers that make it again in the backward pass.
  FusedInput input(const torch::Tensor& x) const { return FusedInput::normed(x, weight, eps); }
  /// residual + forward(x), rounded once.
  torch::Tensor add_to(const torch::Tensor& residual, const torch::Tensor& x) {
    return rms_norm(x, weight, eps, residual);
  }

  torch::Tensor weight;  // float32 [H]
  double eps;
};
TORCH_MODULE(RmsNorm);

}  // namespace bezel::nn
