#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include <torch/nn/pimpl.h>

#include "bezel/nn/fused_input.h"
#include "bezel/nn/module.h"
#include "bezel/quant/weight.h"

namespace bezel::nn {

/// The four frozen bounds of a clipped layer (checkpoint: input_min, input_max, output_min, output_max), rounded to the
/// compute dtype as the reference rounds them. A checkpoint without them leaves them infinite.
struct Clip {
  double input_min = -std::numeric_limits<double>::infinity();
  double input_max = std::numeric_limits<double>::infinity();
  double output_min = -std::numeric_limits<double>::infinity();
  double output_max = std::numeric_limits<double>::infinity();
};

class EffectiveNorms;

/// A LoRA adapter: y += scale * B A dropout(x). A and B are trainable, float32, whatever the base is.
/// With a magnitude it is DoRA: see nn/dora.h.
struct Adapter {
  torch::Tensor a;  ///< float32 [rank, in], kaiming-uniform with a = sqrt(5)
  torch::Tensor b;  ///< float32 [out, rank], zero at the start
  double scale = 1.0;
  double dropout = 0.0;                        ///< probability, in training mode only
  torch::Tensor magnitude = {};                ///< float32 [out], trainable; undefined: plain LoRA
  std::shared_ptr<EffectiveNorms> norms = {};  ///< of DoRA
  /// What PiSSA begins with, and takes out of the base again: A as it began [rank, in] and minus B [out, rank]; frozen.
  torch::Tensor start_a = {}, start_b = {};
  std::uint64_t site = 0;  ///< of its dropout: site_key of the layer's name

  /// A, B and the magnitude where there is one: what is trained.
  std::vector<torch::Tensor> tensors() const;
  /// A and B of all that is added to the base: of PiSSA [2 rank, in] and [out, 2 rank], with the start behind.
  torch::Tensor whole_a() const;
  torch::Tensor whole_b() const;
};

struct ClipCounts;

/// The one linear layer of every tower:  y = clamp(W clamp(x, in) + scale * B A dropout(clamp(x, in)) + bias, out).
/// Weight, clamps and adapter are independent; no part replaces the layer.
/// Keys: `weight`, `bias`, and where clipped the four bounds. The delta is added in float32 to the product in x's dtype
/// and rounded once, as PEFT does over a bfloat16 base.
class LinearImpl : public Module {
 public:
  struct Options {
    bool bias = false;
    bool clipped = false;     ///< use_clipped_linears: the four bounds apply
    bool quantizable = true;  ///< false for routers and the head, which stay dense
    MatrixRole role = MatrixRole::kLinear;
  };

  LinearImpl(std::int64_t in_features, std::int64_t out_features, Options options);
  LinearImpl(std::int64_t in_features, std::int64_t out_features) : LinearImpl(in_features, out_features, Options{}) {}

  /// x [..., in] -> [..., out], x's dtype.
  torch::Tensor forward(const FusedInput& x);

  std::int64_t in_features;
  std::int64_t out_features;
  std::shared_ptr<const quant::Weight> weight;
  torch::Tensor bias;        // [out], undefined without bias
  std::optional<Clip> clip;  // only in clipped layers
  std::optional<Adapter> adapter;
  ClipCounts* clip_counts = nullptr;  // set by ClipObserver while it counts
};
TORCH_MODULE(Linear);

/// What each of `layers` makes of one input, in one step where that gives the same: the input is clamped once, and the
/// As of the adapters are one matrix.
std::vector<torch::Tensor> project(const FusedInput& x, const std::vector<Linear>& layers);

}  // namespace bezel::nn
