#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "bezel/data/batch.h"
#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/train/metrics.h"

namespace bezel::train {

/// What an evaluation measures of a batch.
struct EvalSums {
  double loss = 0.0;                         ///< summed over the objective's units
  std::optional<std::int64_t> correct = {};  ///< units that the model gets right; nothing where that means nothing
};

/// The function that a run minimizes: the mean over the units (label tokens, preference pairs) of all batches of an
/// update, whatever batch a unit is in. Batches are on the CPU.
class Objective {
 public:
  virtual ~Objective() = default;
  /// The number of units in `batch`; 0: the batch is skipped.
  virtual std::int64_t weight(const data::Batch& batch) const = 0;
  /// The loss summed over these units, a float32 scalar; with a graph while gradients are enabled.
  virtual torch::Tensor loss_sum(const data::Batch& batch) = 0;
  /// The same without a graph, and what else is known of the batch then.
  virtual EvalSums evaluate(const data::Batch& batch);
  /// What loss_sum() measured beside the loss since the last call.
  virtual Metrics take_metrics() { return {}; }
};

struct SupervisedOptions {
  double label_smoothing = 0.0;  ///< share of each label that is spread over all tokens
  double noise_alpha = 0.0;      ///< of gemma4::EmbeddingNoise, while the model is in training mode
};

/// Cross-entropy of the label tokens. References: ForCausalLMLoss with num_items_in_batch, LabelSmoother.
class SupervisedObjective : public Objective {
 public:
  /// `observer` is called after each phase of a loss.
  SupervisedObjective(gemma4::Model model, torch::Device device, gemma4::PhaseObserver observer = {},
                      const SupervisedOptions& options = {});

  std::int64_t weight(const data::Batch& batch) const override;
  torch::Tensor loss_sum(const data::Batch& batch) override;
  /// `correct`: labels that are the most likely token.
  EvalSums evaluate(const data::Batch& batch) override;

 private:
  gemma4::Model model_;
  torch::Device device_;
  gemma4::PhaseObserver observer_;
  SupervisedOptions options_;
};

}  // namespace bezel::train
