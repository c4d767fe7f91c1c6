#include "bezel/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

namespace bezel::train {

using torch::Tensor;

Optimizer::Optimizer(std::vector<Tensor> tensors, const AdamSettings& settings) : tensors_(std::move(tensors)) {
  torch::optim::AdamWOptions options(0.0);
  options.betas({settings.beta1, settings.beta2}).eps(settings.epsilon).weight_decay(settings.weight_decay);
  adam_ = std::make_unique<torch::optim::AdamW>(tensors_, options);
}

Optimizer::~Optimizer() = default;

double Optimizer::gradient_norm() const {
  std::vector<Tensor> norms;
  for (const Tensor& tensor : tensors_)
    if (tensor.grad().defined()) norms.push_back(at::norm(tensor.grad()));
  return norms.empty() ? 0.0 : at::norm(at::stack(norms)).item<double>();
}

void Optimizer::clip(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor < 1.0)) return;
  for (const Tensor& tensor : tensors_)
    if (tensor.grad().defined()) tensor.grad().mul_(factor);
}

void Optimizer::step(double learning_rate) {
  for (auto& group : adam_->param_groups()) group.options().set_lr(learning_rate);
  adam_->step();
}

void Optimizer::clear_gradients() { adam_->zero_grad(/*set_to_none=*/true); }

std::optional<Moments> Optimizer::moments(std::size_t idx) const {
  const auto& all = adam_->state();
  const auto found = all.find(tensors_.at(idx).unsafeGetTensorImpl());
  if (found == all.end()) return std::nullopt;
  const auto& state = static_cast<const torch::optim::AdamWParamState&>(*found->second);
  return Moments{state.exp_avg(), state.exp_avg_sq(), state.step()};
}

void Optimizer::set_moments(std::size_t idx, const Moments& moments) {
  const Tensor& tensor = tensors_.at(idx);
  TORCH_CHECK(moments.mean.sizes() == tensor.sizes() && moments.variance.sizes() == tensor.sizes(), "moments of shape ",
              moments.mean.sizes(), " for a tensor of shape ", tensor.sizes());
  auto state = std::make_unique<torch::optim::AdamWParamState>();
  state->step(moments.steps);
  state->exp_avg(moments.mean);
  state->exp_avg_sq(moments.variance);
  adam_->state()[tensor.unsafeGetTensorImpl()] = std::move(state);
}

}  // namespace bezel::train
