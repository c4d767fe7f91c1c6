#pragma once

#include <ATen/ops/layer_norm.h>
#include <torch/nn/pimpl.h>

#include "bezel/nn/module.h"

namespace bezel::nn {

/// (x - mean) / sqrt(variance + 1e-5) * weight + bias, with frozen weight and bias [H]; the statistics in float32.
/// Reference: torch.nn.LayerNorm, whose own eps it is.
class LayerNormImpl : public Module {
 public:
  explicit LayerNormImpl(std::int64_t hidden_size) {
    expect("weight", {hidden_size}, weight);
    expect("bias", {hidden_size}, bias);
  }

  /// x [..., H] -> [..., H], x's dtype.
  torch::Tensor forward(const torch::Tensor& x) { return at::layer_norm(x, {x.size(-1)}, weight, bias, 1e-5); }

  torch::Tensor weight, bias;  // [H]
};
TORCH_MODULE(LayerNorm);

}  // namespace bezel::nn
