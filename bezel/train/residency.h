#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/quant/pin.h"
#include "bezel/quant/weight.h"

namespace bezel::train {

/// Which mapped weights a Residency evicts; each has its price in docs/BENCHMARKS.md.
struct EvictionOptions {
  bool encoders = true;  ///< once their soft tokens are computed
  bool decoder = true;   ///< the lower half of the decoder layers, before the output embedding is read
  bool head = true;      ///< the output embedding, once the loss or the logits are computed
};

/// Decides which pages of mapped weights stay in memory during a step. The only place that decides it: model, layers
/// and weights have no policy. Weights that are not mapped (quantized while loading, pinned, on a device) stay.
class Residency {
 public:
  /// Looks at which towers have adapters, so attach them first. Keeps the weights alive, not the model.
  explicit Residency(const gemma4::Model& model, EvictionOptions options = {});

  /// Evicts the weights that are not read again until the backward pass, or until the next step.
  void after(gemma4::Phase phase) const;

  /// Calls after(); must not outlive this object.
  gemma4::PhaseObserver observer() const {
    return [this](gemma4::Phase phase) { after(phase); };
  }

 private:
  using Weights = std::vector<std::shared_ptr<const quant::Weight>>;

  EvictionOptions options_;
  input::PerKind<Weights> encoders_;  // to evict after that phase
  Weights decoder_;
  std::shared_ptr<const quant::Weight> head_;
  std::int64_t first_head_row_ = 0;  // rows below it stay
};

/// Pins the matrices of the decoder and the output embedding for as long as it lives: decoding reads all of them for
/// each token. Experts stay mapped, since a token reads a few of them; so does a model that would take more than half
/// of the memory of the machine. Throws Error (kMemory) when there is no memory for the copies.
class PinnedDecoder {
 public:
  explicit PinnedDecoder(const gemma4::Model& model);

 private:
  std::vector<quant::Pin> pins_;
};

}  // namespace bezel::train
