#pragma once

#include <functional>
#include <memory>

#include <torch/nn/modules/container/modulelist.h>

#include "bezel/gemma4/config.h"
#include "bezel/input/batch.h"
#include "bezel/nn/module.h"

namespace bezel::gemma4 {

/// Turns media of one kind into soft tokens.
class Encoder : public nn::Module {
 public:
  /// `width` of its soft tokens; `eps` of the norm in the projector behind it.
  Encoder(std::int64_t width, double eps) : width(width), eps(eps) {}

  /// Soft tokens [M, width] of one item in `dtype`.
  virtual torch::Tensor encode(const input::Media& media, torch::ScalarType dtype) = 0;
  /// Its layers, in the order in which they run; empty where it has none.
  virtual torch::nn::ModuleList layers() const { return torch::nn::ModuleList(); }

  const std::int64_t width;
  const double eps;
  bool recompute = false;  ///< keep only each layer's input for the backward pass

 protected:
  using Forward = std::function<torch::Tensor(torch::nn::Module& layer, const torch::Tensor& x)>;

  /// x [N, H] through all layers; `forward` runs one of them, with `recompute` in the backward pass again.
  torch::Tensor run_layers(torch::Tensor x, const Forward& forward) const;
};

/// The encoder for a kind of media; null where the model has none.
std::shared_ptr<Encoder> make_encoder(const ModelConfig& config, input::MediaKind kind);

}  // namespace bezel::gemma4
