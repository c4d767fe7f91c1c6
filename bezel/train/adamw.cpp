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

void AdamW::apply_all(std::vector<Update>& updates) const {
  std::vector<Tensor> parameters, gradients, exp_avg, exp_avg_sq;
  std::vector<at::Scalar> kept, roots, steps;
  bool decays = false;
  for (const Update& update : updates) {
    parameters.push_back(update.parameter);
    gradients.push_back(update.gradient);
    exp_avg.push_back(update.state[0]);
    exp_avg_sq.push_back(update.state[1]);
    const auto step = static_cast<double>(update.step);
    decays = decays || update.weight_decay != 0;
    kept.emplace_back(1 - update.learning_rate * update.weight_decay);
    roots.emplace_back(std::sqrt(1 - std::pow(beta2_, step)));
    steps.emplace_back(-update.learning_rate / (1 - std::pow(beta1_, step)));
  }
  if (decays) at::_foreach_mul_(parameters, kept);
  at::_foreach_mul_(exp_avg, beta1_);
  at::_foreach_add_(exp_avg, gradients, 1 - beta1_);
  at::_foreach_mul_(exp_avg_sq, beta2_);
  at::_foreach_addcmul_(exp_avg_sq, gradients, gradients, 1 - beta2_);
  std::vector<Tensor> denominators = at::_foreach_sqrt(exp_avg_sq);
  at::_foreach_div_(denominators, roots);
  at::_foreach_add_(denominators, epsilon_);
  at::_foreach_addcdiv_(parameters, exp_avg, denominators, steps);
}

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
