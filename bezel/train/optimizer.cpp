#include "bezel/train/optimizer.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>

namespace bezel::train {

using torch::Tensor;

Optimizer::Optimizer(NamedTensors parameters, const AdamSettings& settings) : parameters_(std::move(parameters)) {
  torch::optim::AdamWOptions options(0.0);
  options.betas({settings.beta1, settings.beta2}).eps(settings.epsilon).weight_decay(settings.weight_decay);
  for (const auto& [name, tensor] : parameters_)
    adams_.push_back(std::make_unique<torch::optim::AdamW>(std::vector<Tensor>{tensor}, options));
  rate_factors_.assign(parameters_.size(), 1.0);
}

void Optimizer::set_rate_factors(std::vector<double> factors) {
  TORCH_CHECK(factors.size() == parameters_.size(), factors.size(), " factors for ", parameters_.size(), " parameters");
  rate_factors_ = std::move(factors);
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
  // One parallel region over the parameters: each is small, and every operator on one would start a region of its own.
  // On another device the calling thread launches all kernels.
  const auto count = static_cast<std::int64_t>(adams_.size());
  const bool on_cpu = std::ranges::all_of(parameters_, [](const auto& item) { return item.second.is_cpu(); });
  at::parallel_for(0, count, on_cpu ? 1 : count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      adams_[i]->param_groups()[0].options().set_lr(learning_rate * rate_factors_[static_cast<std::size_t>(i)]);
      adams_[i]->step();
    }
  });
}

void Optimizer::clear_gradients() {
  for (auto& adam : adams_) adam->zero_grad(/*set_to_none=*/true);
}

NamedTensors Optimizer::state() const {
  NamedTensors all;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, tensor] = parameters_[i];
    const auto found = adams_[i]->state().find(tensor.unsafeGetTensorImpl());
    if (found == adams_[i]->state().end()) continue;
    const auto& state = static_cast<const torch::optim::AdamWParamState&>(*found->second);
    all.emplace_back("exp_avg." + name, state.exp_avg());
    all.emplace_back("exp_avg_sq." + name, state.exp_avg_sq());
    all.emplace_back("step." + name, at::scalar_tensor(state.step(), torch::kLong));
  }
  return all;
}

void Optimizer::load_state(StateFile& file) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, tensor] = parameters_[i];
    adams_[i]->state().clear();
    if (!file.has("step." + name)) continue;
    auto state = std::make_unique<torch::optim::AdamWParamState>();
    state->step(file.take("step." + name, {}, torch::kLong, torch::kCPU).item<std::int64_t>());
    state->exp_avg(file.take_like("exp_avg." + name, tensor));
    state->exp_avg_sq(file.take_like("exp_avg_sq." + name, tensor));
    adams_[i]->state()[tensor.unsafeGetTensorImpl()] = std::move(state);
  }
}

}  // namespace bezel::train
