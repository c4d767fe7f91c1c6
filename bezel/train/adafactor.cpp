#include "bezel/train/adafactor.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

namespace bezel::train {

using torch::Tensor;

namespace {

constexpr double kSquareEpsilon = 1e-30;  // added to squared gradients

Tensor root_mean_square(const Tensor& tensor) {
  return at::norm(tensor) / std::sqrt(static_cast<double>(tensor.numel()));
}

}  // namespace

Adafactor::Adafactor(const OptimizerSettings& settings)
    : clip_threshold_(settings.options.clip_threshold.value_or(1.0)),
      decay_rate_(settings.options.decay_rate.value_or(-0.8)),
      beta1_(settings.options.beta1) {}

std::vector<Slot> Adafactor::slots(const Tensor& parameter) const {
  const std::vector<std::int64_t> shape = parameter.sizes().vec();
  std::vector<Slot> slots;
  if (shape.size() >= 2) {
    std::vector<std::int64_t> rows(shape.begin(), shape.end() - 1), columns(shape.begin(), shape.end() - 2);
    columns.push_back(shape.back());
    slots = {{"exp_avg_sq_row", rows}, {"exp_avg_sq_col", columns}};
  } else {
    slots = {{"exp_avg_sq", shape}};
  }
  if (beta1_) slots.push_back({"exp_avg", shape});
  return slots;
}

// The gradient over the root of its second moment.
Tensor Adafactor::scaled_gradient(const Update& update) const {
  const double beta2 = 1.0 - std::pow(static_cast<double>(update.step), decay_rate_);
  const Tensor squares = update.gradient.square().add_(kSquareEpsilon);
  if (squares.dim() < 2) {
    update.state[0].mul_(beta2).add_(squares, 1.0 - beta2);
    return update.state[0].rsqrt().mul_(update.gradient);
  }
  Tensor &rows = update.state[0], &columns = update.state[1];
  rows.mul_(beta2).add_(squares.mean(-1), 1.0 - beta2);
  columns.mul_(beta2).add_(squares.mean(-2), 1.0 - beta2);
  const Tensor row_factor = (rows / rows.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
  return at::mul(row_factor, columns.unsqueeze(-2).rsqrt()).mul_(update.gradient);
}

void Adafactor::apply(const Update& update) const {
  Tensor change = scaled_gradient(update);
  change.div_((root_mean_square(change) / clip_threshold_).clamp_min_(1.0)).mul_(update.learning_rate);
  if (beta1_) {
    Tensor& exp_avg = update.state.back();
    change = exp_avg.mul_(*beta1_).add_(change, 1.0 - *beta1_);
  }
  if (update.weight_decay != 0) update.parameter.add_(update.parameter, -(update.weight_decay * update.learning_rate));
  update.parameter.sub_(change);
}

}  // namespace bezel::train
