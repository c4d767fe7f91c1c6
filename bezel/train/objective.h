#pragma once

#include <cstdint>

#include <torch/types.h>

#include "bezel/data/batch.h"
#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"

namespace bezel::train {

/// The function that a run minimizes: the mean over the units (label tokens, preference pairs) of all batches of an
/// update, whatever batch a unit is in. Batches are on the CPU.
class Objective {
 public:
  virtual ~Objective() = default;
  /// The number of units in `batch`; 0: the batch is skipped.
  virtual std::int64_t weight(const data::Batch& batch) const = 0;
  /// The loss summed over these units, a float32 scalar; with a graph while gradients are enabled.
  virtual torch::Tensor loss_sum(const data::Batch& batch) = 0;
};

/// Cross-entropy of the label tokens. Reference: ForCausalLMLoss with num_items_in_batch.
class SupervisedObjective : public Objective {
 public:
  /// `observer` is called after each phase of a loss.
  SupervisedObjective(gemma4::Model model, torch::Device device, gemma4::PhaseObserver observer = {});

  std::int64_t weight(const data::Batch& batch) const override;
  torch::Tensor loss_sum(const data::Batch& batch) override;

 private:
  gemma4::Model model_;
  torch::Device device_;
  gemma4::PhaseObserver observer_;
};

}  // namespace bezel::train
