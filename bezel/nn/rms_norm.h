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

/// rms_norm with its `weight` [H], frozen or `trained`. References: Gemma4RMSNorm, Gemma3RMSNorm.
class RmsNormImpl : public Module {
 public:
  RmsNormImpl(std::int64_t hidden_size, double eps, NormForm form = {}) : eps(eps), form_(form) {
    const auto assign = [this](const torch::Tensor& tensor) {
      stored = tensor.to(torch::kFloat);
      weight = multiplied(stored);
    };
    add_slot({.name = "weight", .shape = {hidden_size}, .assign = assign, .assign_weight = nullptr, .wide = true});
  }

  /// x [..., H] -> [..., H], x's dtype.
  torch::Tensor forward(const torch::Tensor& x) { return rms_norm(x, now(), eps); }
  /// forward(x) for layers that make it again in the backward pass.
  FusedInput input(const torch::Tensor& x) const { return FusedInput::normed(x, now(), eps); }
  /// residual + forward(x), rounded once.
  torch::Tensor add_to(const torch::Tensor& residual, const torch::Tensor& x) {
    return rms_norm(x, now(), eps, residual);
  }

  torch::Tensor weight;   // float32 [H], as it is multiplied in
  torch::Tensor stored;   // float32 [H], as the checkpoint has it
  torch::Tensor trained;  // in place of `stored`; undefined: frozen
  double eps;

 private:
  torch::Tensor multiplied(const torch::Tensor& tensor) const { return (tensor + form_.offset) * form_.scale; }
  torch::Tensor now() const { return trained.defined() ? multiplied(trained) : weight; }

  NormForm form_;
};
TORCH_MODULE(RmsNorm);

}  // namespace bezel::nn
