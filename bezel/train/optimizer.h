#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "bezel/train/state_file.h"

namespace torch::optim {
class AdamW;
}

namespace bezel::train {

struct AdamSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// AdamW over the adapter tensors. A parameter whose gradient is undefined is skipped by an update: no moments, no
/// decay, no step count, as in PyTorch, so a tower that took no part stays as it is.
class Optimizer {
 public:
  /// Names are unique; state() and load_state() refer to them.
  Optimizer(NamedTensors parameters, const AdamSettings& settings);
  ~Optimizer();

  /// Euclidean norm of all gradients together; NaN or Inf when one of them holds such.
  double gradient_norm() const;
  /// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, as torch's clip_grad_norm_.
  void clip(double norm, double max_norm);
  /// Updates every parameter at `learning_rate` times its factor.
  void step(double learning_rate);
  /// One for each of parameters(); all are 1 without this call.
  void set_rate_factors(std::vector<double> factors);
  /// Leaves every gradient undefined.
  void clear_gradients();

  const NamedTensors& parameters() const { return parameters_; }
  /// For each parameter NAME that was updated: "exp_avg.NAME" and "exp_avg_sq.NAME", float32 of its shape, and
  /// "step.NAME", int64 [], its number of updates. Not copied.
  NamedTensors state() const;
  /// Replaces the state by that of `file`, which holds what state() returned. A parameter without a "step" starts
  /// anew. Throws Error naming the tensor when one is missing or of another shape.
  void load_state(StateFile& file);

 private:
  NamedTensors parameters_;
  std::vector<std::unique_ptr<torch::optim::AdamW>> adams_;  // one for each parameter
  std::vector<double> rate_factors_;                         // likewise
};

}  // namespace bezel::train
