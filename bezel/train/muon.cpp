#include "bezel/train/muon.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

namespace bezel::train {

using torch::Tensor;

namespace {

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kLeastNorm = 1e-7;

}  // namespace

Tensor orthogonalized(const Tensor& matrix, std::int64_t steps) {
  const bool is_tall = matrix.size(0) > matrix.size(1);
  Tensor x = matrix.to(torch::kBFloat16, /*non_blocking=*/false, /*copy=*/true);  // [m, n], m <= n once turned
  if (is_tall) x = x.t();
  x.div_(x.norm().clamp_min(kLeastNorm));
  for (std::int64_t i = 0; i < steps; ++i) {
    const Tensor gram = x.mm(x.t());
    x = at::addmm(x, at::addmm(gram, gram, gram, kB, kC), x, kA);
  }
  return is_tall ? x.t() : x;
}

bool takes_muon(const std::string& name, const Tensor& parameter) {
  return parameter.dim() == 2 &&
         (name.find(".lora_A.") != std::string::npos || name.find(".lora_B.") != std::string::npos);
}

Muon::Muon(const OptimizerSettings& settings)
    : momentum_(settings.options.momentum.value_or(0.95)),
      nesterov_(settings.options.nesterov.value_or(true)),
      matches_adamw_(settings.options.adjust_lr_fn != "original"),
      ns_steps_(settings.options.ns_steps.value_or(5)) {}

std::vector<Slot> Muon::slots(const Tensor& parameter) const { return {{"momentum_buffer", parameter.sizes().vec()}}; }

double Muon::scale(const Tensor& parameter) const {
  const auto rows = static_cast<double>(parameter.size(0)), columns = static_cast<double>(parameter.size(1));
  return matches_adamw_ ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
}

void Muon::apply(const Update& update) const {
  Tensor& momentum = update.state[0];
  momentum.lerp_(update.gradient, 1 - momentum_);
  const Tensor direction =
      orthogonalized(nesterov_ ? at::lerp(update.gradient, momentum, momentum_) : momentum, ns_steps_);
  update.parameter.mul_(1 - update.learning_rate * update.weight_decay);
  update.parameter.add_(direction, -update.learning_rate * scale(update.parameter));
}

}  // namespace bezel::train
