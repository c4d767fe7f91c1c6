#include "bezel/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>

namespace bezel::train {

using torch::Tensor;

Optimizer::Optimizer(std::vector<Tensor> tensors, const AdamSettings& settings) : tensors_(std::move(tensors)) {
  torch::optim::AdamWOptions options(0.0);
  options.betas({settings.beta1, settings.beta2}).eps(settings.epsilon).weight_decay(settings.weight_decay);
  for (const Tensor& tensor : tensors_)
    adams_.push_back(std::make_unique<torch::optim::AdamW>(std::vector<Tensor>{tensor}, options));
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
  // Threads share the tensors out, once: they are small, and each operator on one would wake and await them again.
  // A device's queue belongs to the thread that calls this.
  const auto count = static_cast<std::int64_t>(adams_.size());
  const bool on_cpu = std::ranges::all_of(tensors_, [](const Tensor& tensor) { return tensor.is_cpu(); });
  at::parallel_for(0, count, on_cpu ? 1 : count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      adams_[i]->param_groups()[0].options().set_lr(learning_rate);
      adams_[i]->step();
    }
  });
}

void Optimizer::clear_gradients() {
  for (auto& adam : adams_) adam->zero_grad(/*set_to_none=*/true);
}

std::optional<Moments> Optimizer::moments(std::size_t idx) const {
  const auto& all = adams_.at(idx)->state();
  const auto found = all.find(tensors_[idx].unsafeGetTensorImpl());
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
  adams_[idx]->state()[tensor.unsafeGetTensorImpl()] = std::move(state);
}

}  // namespace bezel::train
