#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <torch/types.h>

namespace bezel::train {

/// A tensor that an optimizer keeps for a parameter, zero before the first update.
struct Slot {
  std::string_view name;  ///< in checkpoints, such as "exp_avg"
  std::vector<std::int64_t> shape;
  torch::ScalarType dtype = torch::kFloat;
};

/// One parameter at one update.
struct Update {
  torch::Tensor parameter;
  torch::Tensor gradient;
  std::vector<torch::Tensor>& state;  ///< in the order of slots(); written in place
  std::int64_t step = 1;              ///< updates of this parameter, this one included
  double learning_rate = 0.0;
  double weight_decay = 0.0;
};

/// The formula by which an optimizer moves a parameter. Without a state of its own, so that threads may share it.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  virtual std::vector<Slot> slots(const torch::Tensor& parameter) const = 0;
  /// Called without a graph.
  virtual void apply(const Update& update) const = 0;
  /// Many parameters of a device at once, by fewer kernels where the rule can.
  virtual void apply_all(std::vector<Update>& updates) const {
    for (const Update& update : updates) apply(update);
  }
};

}  // namespace bezel::train
