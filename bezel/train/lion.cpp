#include "bezel/train/lion.h"

#include <ATen/ATen.h>

namespace bezel::train {

using torch::Tensor;

Lion::Lion(const OptimizerSettings& settings) : beta1_(settings.beta1), beta2_(settings.beta2) {}

std::vector<Slot> Lion::slots(const Tensor& parameter) const { return {{"exp_avg", parameter.sizes().vec()}}; }

void Lion::apply(const Update& update) const {
  Tensor& exp_avg = update.state[0];
  if (update.weight_decay != 0) update.parameter.mul_(1 - update.learning_rate * update.weight_decay);
  const Tensor mixed = exp_avg.mul(beta1_).add_(update.gradient, 1 - beta1_);
  update.parameter.add_(mixed.sign_(), -update.learning_rate);
  exp_avg.mul_(beta2_).add_(update.gradient, 1 - beta2_);
}

}  // namespace bezel::train
