#include "bezel/train/optimizer.h"

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

namespace bezel::train {

using torch::Tensor;

Optimizer::Optimizer(NamedTensors parameters, const AdamSettings& settings) : parameters_(std::move(parameters)) {
  torch::optim::AdamWOptions options(0.0);
  options.betas({settings.beta1, settings.beta2}).eps(settings.epsilon).weight_decay(settings.weight_decay);
  std::vector<Tensor> tensors;
  for (const auto& [name, tensor] : parameters_) tensors.push_back(tensor);
  adam_ = std::make_unique<torch::optim::AdamW>(tensors, options);
}

Optimizer::~Optimizer() = default;

double Optimizer::gradient_norm() const {
  std::vector<Tensor> norms;
  for (const auto& [name, tensor] : parameters_)
    if (tensor.grad().defined()) norms.push_back(at::norm(tensor.grad()));
  return norms.empty() ? 0.0 : at::norm(at::stack(norms)).item<double>();
}

void Optimizer::clip(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor < 1.0)) return;
  for (const auto& [name, tensor] : parameters_)
    if (tensor.grad().defined()) tensor.grad().mul_(factor);
}

void Optimizer::step(double learning_rate) {
  for (auto& group : adam_->param_groups()) group.options().set_lr(learning_rate);
  adam_->step();
}

void Optimizer::clear_gradients() { adam_->zero_grad(/*set_to_none=*/true); }

NamedTensors Optimizer::state() const {
  NamedTensors all;
  for (const auto& [name, tensor] : parameters_) {
    const auto found = adam_->state().find(tensor.unsafeGetTensorImpl());
    if (found == adam_->state().end()) continue;
    const auto& state = static_cast<const torch::optim::AdamWParamState&>(*found->second);
    all.emplace_back("exp_avg." + name, state.exp_avg());
    all.emplace_back("exp_avg_sq." + name, state.exp_avg_sq());
    all.emplace_back("step." + name, at::scalar_tensor(state.step(), torch::kLong));
  }
  return all;
}

void Optimizer::load_state(StateFile& file) {
  adam_->state().clear();
  for (const auto& [name, tensor] : parameters_) {
    if (!file.has("step." + name)) continue;
    auto state = std::make_unique<torch::optim::AdamWParamState>();
    state->step(file.take("step." + name, {}, torch::kLong, torch::kCPU).item<std::int64_t>());
    state->exp_avg(file.take_like("exp_avg." + name, tensor));
    state->exp_avg_sq(file.take_like("exp_avg_sq." + name, tensor));
    adam_->state()[tensor.unsafeGetTensorImpl()] = std::move(state);
  }
}

}  // namespace bezel::train
