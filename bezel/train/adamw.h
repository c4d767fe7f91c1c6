#pragma once

#include "bezel/train/optimizer_settings.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

/// Adam with decoupled weight decay, to the bits of torch::optim::AdamW. Slots: exp_avg, exp_avg_sq.
class AdamW : public UpdateRule {
 public:
  explicit AdamW(const OptimizerSettings& settings);
  std::vector<Slot> slots(const torch::Tensor& parameter) const override;
  void apply(const Update& update) const override;
  void apply_all(std::vector<Update>& updates) const override;
  /// The same from these moments, float32 of the parameter's shape, which it moves first.
  void apply(const Update& update, torch::Tensor& exp_avg, torch::Tensor& exp_avg_sq) const;

 private:
  double beta1_, beta2_, epsilon_;
};

}  // namespace bezel::train
