#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "bezel/train/optimizer_settings.h"
#include "bezel/train/state_file.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// Moves the adapter tensors by the rule that its settings name. A parameter whose gradient is undefined is skipped by
/// an update: no moments, no decay, no step count, as in PyTorch, so a tower that took no part stays as it is.
class Optimizer {
 public:
  /// Names are unique; state() and load_state() refer to them. Throws Error (kConfig) when a group of the settings
  /// matches no parameter.
  Optimizer(NamedTensors parameters, const OptimizerSettings& settings);

  /// Euclidean norm of all gradients together; NaN or Inf when one of them holds such.
  double gradient_norm() const;
  /// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, as torch's clip_grad_norm_.
  void clip(double norm, double max_norm);
  /// Updates every parameter at `learning_rate` times its factor.
  void step(double learning_rate);
  /// Leaves every gradient undefined.
  void clear_gradients();

  const NamedTensors& parameters() const { return parameters_; }
  /// For each parameter NAME that was updated: its rule's slots as "SLOT.NAME", such as "exp_avg.NAME", and
  /// "step.NAME", int64 [], its number of updates. Not copied.
  NamedTensors state() const;
  /// Replaces the state by that of `file`, which holds what state() returned. A parameter without a "step" starts
  /// again. Throws Error naming the tensor when one is missing or of another shape.
  void load_state(StateFile& file);

 private:
  /// How a parameter is updated, and what is kept for it.
  struct Member {
    std::shared_ptr<const UpdateRule> rule;
    double rate_ratio = 1.0;
    double weight_decay = 0.0;
    std::int64_t steps = 0;
    std::vector<torch::Tensor> state = {};  // empty before the first update
  };

  std::vector<torch::Tensor> gradients() const;
  // Counts an update of a parameter, and makes its state before the first.
  Update next_update(std::size_t idx, double learning_rate);
  void step_on_device(double learning_rate);

  NamedTensors parameters_;
  std::vector<Member> members_;  // one for each parameter
};

}  // namespace bezel::train
