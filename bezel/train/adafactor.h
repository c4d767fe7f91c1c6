#pragma once

#include <optional>

#include "bezel/train/optimizer_settings.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

/// Adafactor: a second moment kept as means over rows and columns, and updates clipped by their root mean square.
/// Reference: transformers' Adafactor with scale_parameter and relative_step off. Slots: exp_avg_sq_row and
/// exp_avg_sq_col of a matrix, exp_avg_sq of a vector, and with beta1 exp_avg.
class Adafactor : public UpdateRule {
 public:
  explicit Adafactor(const OptimizerSettings& settings);
  std::vector<Slot> slots(const torch::Tensor& parameter) const override;
  void apply(const Update& update) const override;

 private:
  torch::Tensor scaled_gradient(const Update& update) const;

  double clip_threshold_, decay_rate_;
  std::optional<double> beta1_;
};

}  // namespace bezel::train
