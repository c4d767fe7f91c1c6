#pragma once

#include "bezel/train/optimizer_settings.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

/// Lion: the sign of a momentum that the new gradient is mixed into. With c = beta1 m + (1 - beta1) g:
/// x -= lr (sign(c) + weight_decay x), then m = beta2 m + (1 - beta2) g. Reference: Chen et al., algorithm 2; decay
/// comes first, as in bitsandbytes. Slot: exp_avg.
class Lion : public UpdateRule {
 public:
  explicit Lion(const OptimizerSettings& settings);
  std::vector<Slot> slots(const torch::Tensor& parameter) const override;
  void apply(const Update& update) const override;

 private:
  double beta1_, beta2_;
};

}  // namespace bezel::train
