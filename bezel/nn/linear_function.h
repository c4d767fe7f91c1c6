#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/ivalue.h>
#include <torch/types.h>

#include "bezel/nn/clip_counts.h"
#include "bezel/nn/fused_input.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/low_rank_terms.h"

namespace bezel::nn {

/// One layer of a call of linear_function, apart from the tensors of the graph.
struct FrozenLayer {
  std::shared_ptr<const quant::Weight> weight;
  torch::Tensor bias;
  std::optional<Clip> clip;
  ClipCounts* clip_counts = nullptr;  ///< of the layer's observer
};

/// Everything of a call that is not a tensor of the graph. All layers clamp the input alike.
struct LinearCall : torch::CustomClassHolder {
  FusedInput input;
  std::vector<FrozenLayer> layers;
  LowRankTerms terms;        ///< of the same layers
  torch::Tensor keep;        ///< dropout of a single layer: bool [N, in]; undefined without dropout
  double keep_scale = 1.0;   ///< 1 / (1 - p)
  bool needs_graph = false;  ///< a gradient will be computed

  const std::optional<Clip>& clip() const { return layers[0].clip; }
  torch::Tensor clamped(const torch::Tensor& x) const;
  /// float32 values where they are kept, in place.
  torch::Tensor kept(torch::Tensor values) const { return values.mul_(keep_scale).mul_(keep); }
  /// What enters A: the clamped input with the dropout of this call.
  torch::Tensor adapter_input(const torch::Tensor& x_clamped) const;
};

/// The outputs of all layers of `call` on rows of one input. `sources` [N, ...] are what the input is made from,
/// `adapters` the tensors of call->terms. Saves the sources (shared with whoever else keeps them), the small product
/// with all As, and where clipped one bit for each output. Never a gradient of W, never a float32 copy of the input.
std::vector<torch::Tensor> linear_function(const std::vector<torch::Tensor>& sources,
                                           const std::vector<torch::Tensor>& adapters,
                                           const c10::intrusive_ptr<LinearCall>& call);

}  // namespace bezel::nn
