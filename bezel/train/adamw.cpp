#include "bezel/train/adamw.h"

#include <cmath>

#include <ATen/ATen.h>

namespace bezel::train {

using torch::Tensor;

AdamW::AdamW(const OptimizerSettings& settings)
    : beta1_(settings.beta1), beta2_(settings.beta2), epsilon_(settings.epsilon) {}

std::vector<Slot> AdamW::slots(const Tensor& parameter) const {
  return {{"exp_avg", parameter.sizes().vec()}, {"exp_avg_sq", parameter.sizes().vec()}};
}

void AdamW::apply(const Update& update) const { apply(update, update.state[0], update.state[1]); }

// The operators of torch::optim::AdamW, in their order.
void AdamW::apply(const Update& update, Tensor& exp_avg, Tensor& exp_avg_sq) const {
  if (update.weight_decay != 0) update.parameter.mul_(1 - update.learning_rate * update.weight_decay);
  const auto step = static_cast<double>(update.step);
  const double correction1 = 1 - std::pow(beta1_, step), correction2 = 1 - std::pow(beta2_, step);
  exp_avg.mul_(beta1_).add_(update.gradient, 1 - beta1_);
  exp_avg_sq.mul_(beta2_).addcmul_(update.gradient, update.gradient, 1 - beta2_);
  const Tensor denominator = (exp_avg_sq.sqrt() / std::sqrt(correction2)).add_(epsilon_);
  update.parameter.addcdiv_(exp_avg, denominator, -(update.learning_rate / correction1));
}

}  // namespace bezel::train
