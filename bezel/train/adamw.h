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

 private:
  double beta1_, beta2_, epsilon_;
};

/// The same from moments [any shape] in float32, which it moves first; what AdamW is where they come from codes.
void apply_adamw(const Update& update, torch::Tensor& exp_avg, torch::Tensor& exp_avg_sq, double beta1, double beta2,
                 double epsilon);

}  // namespace bezel::train
