#include "bezel/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace bezel::train {

double Schedule::rate(std::int64_t step) const {
  if (kind == ScheduleKind::kConstant) return peak;
  const auto done = static_cast<double>(step);
  const auto warmup = static_cast<double>(warmup_steps);
  if (step < warmup_steps) return peak * done / std::max(1.0, warmup);
  if (kind == ScheduleKind::kConstantWithWarmup) return peak;
  const double decay_steps = std::max(1.0, static_cast<double>(total_steps) - warmup);
  const double progress = (done - warmup) / decay_steps;
  if (kind == ScheduleKind::kLinear) return peak * std::max(0.0, 1.0 - progress);
  return peak * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps) {
  return static_cast<std::int64_t>(std::ceil(ratio * static_cast<double>(total_steps)));
}

}  // namespace bezel::train
