#include "bezel/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

namespace bezel::train {
namespace {

constexpr std::string_view kScheduleNames[] = {"cosine",
                                               "linear",
                                               "constant",
                                               "constant_with_warmup",
                                               "cosine_with_restarts",
                                               "cosine_with_min_lr",
                                               "cosine_warmup_with_min_lr",
                                               "polynomial",
                                               "inverse_sqrt",
                                               "warmup_stable_decay"};

constexpr std::string_view kCycles[] = {"num_cycles"};
constexpr std::string_view kMinLr[] = {"min_lr", "min_lr_rate", "num_cycles"};
constexpr std::string_view kWarmupMinLr[] = {"min_lr", "min_lr_rate", "num_cycles", "warmup_lr_rate"};
constexpr std::string_view kPolynomial[] = {"lr_end", "power"};
constexpr std::string_view kInverseSqrt[] = {"timescale"};
constexpr std::string_view kStableDecay[] = {"num_decay_steps", "num_stable_steps", "min_lr_ratio",
                                             "decay_type",      "warmup_type",      "num_cycles"};

double half_cosine(double waves) { return 0.5 * (1.0 + std::cos(std::numbers::pi * waves)); }

/// Rises from 0 to 1 with `progress`.
double rise(const std::string& type, double progress) {
  if (type == "cosine") return 0.5 * (1.0 - std::cos(std::numbers::pi * progress));
  if (type == "1-sqrt") return 1.0 - std::sqrt(1.0 - progress);
  return progress;
}

}  // namespace

std::span<const std::string_view> schedule_names() { return kScheduleNames; }

std::optional<ScheduleKind> find_schedule(std::string_view name) {
  const auto* const found = std::ranges::find(kScheduleNames, name);
  if (found == std::end(kScheduleNames)) return std::nullopt;
  return static_cast<ScheduleKind>(found - kScheduleNames);
}

std::span<const std::string_view> options_of(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kCosine:
    case ScheduleKind::kCosineWithRestarts:
      return kCycles;
    case ScheduleKind::kCosineWithMinLr:
      return kMinLr;
    case ScheduleKind::kCosineWarmupWithMinLr:
      return kWarmupMinLr;
    case ScheduleKind::kPolynomial:
      return kPolynomial;
    case ScheduleKind::kInverseSqrt:
      return kInverseSqrt;
    case ScheduleKind::kWarmupStableDecay:
      return kStableDecay;
    case ScheduleKind::kLinear:
    case ScheduleKind::kConstant:
    case ScheduleKind::kConstantWithWarmup:
      break;
  }
  return {};
}

double Schedule::rate(std::int64_t step) const { return peak * factor(step); }

std::int64_t Schedule::stable_steps() const {
  return options.num_stable_steps.value_or(total_steps - warmup_steps - options.num_decay_steps.value_or(0));
}

double Schedule::factor(std::int64_t step) const {
  if (kind == ScheduleKind::kConstant) return 1.0;
  return step < warmup_steps ? warmup_factor(static_cast<double>(step)) : decay_factor(static_cast<double>(step));
}

double Schedule::warmup_factor(double step) const {
  const double steps = std::max(1.0, static_cast<double>(warmup_steps));
  if (kind == ScheduleKind::kCosineWarmupWithMinLr) {
    if (!options.warmup_lr_rate) return (step + 1.0) / steps;
    const double begin = *options.warmup_lr_rate;
    return begin + (1.0 - begin) * step / std::max(1.0, static_cast<double>(warmup_steps - 1));
  }
  if (kind != ScheduleKind::kWarmupStableDecay) return step / steps;
  const double least = options.min_lr_ratio.value_or(0.0);
  return std::max(0.0, rise(options.warmup_type, step / steps) * (1.0 - least) + least);
}

double Schedule::decay_factor(double step) const {
  const auto warmup = static_cast<double>(warmup_steps);
  // A warm-up as long as the run divides by zero in transformers' polynomial; here it ends at the peak.
  const double decay_steps = std::max(1.0, static_cast<double>(total_steps) - warmup);
  const double progress = (step - warmup) / decay_steps;
  switch (kind) {
    case ScheduleKind::kLinear:
      return std::max(0.0, 1.0 - progress);
    case ScheduleKind::kCosineWithRestarts:
      if (progress >= 1.0) return 0.0;
      return std::max(0.0, half_cosine(std::fmod(options.num_cycles.value_or(1.0) * progress, 1.0)));
    case ScheduleKind::kPolynomial: {
      const double end = options.lr_end.value_or(1e-7) / peak;
      if (progress > 1.0) return end;
      return (1.0 - end) * std::pow(1.0 - progress, options.power.value_or(1.0)) + end;
    }
    case ScheduleKind::kInverseSqrt: {
      const auto scale = static_cast<double>(options.timescale.value_or(warmup_steps > 0 ? warmup_steps : 10'000));
      return 1.0 / std::sqrt((step + scale - warmup) / scale);
    }
    case ScheduleKind::kCosine:
    case ScheduleKind::kCosineWithMinLr:
      return cosine_factor(progress);
    case ScheduleKind::kCosineWarmupWithMinLr:
      return cosine_factor(progress + 1.0 / decay_steps);
    case ScheduleKind::kWarmupStableDecay:
      return stable_decay_factor(step);
    case ScheduleKind::kConstant:
    case ScheduleKind::kConstantWithWarmup:
      break;
  }
  return 1.0;
}

double Schedule::cosine_factor(double progress) const {
  const double least = min_rate();
  return std::max(0.0, half_cosine(options.num_cycles.value_or(0.5) * 2.0 * progress) * (1.0 - least) + least);
}

double Schedule::min_rate() const {
  return options.min_lr ? *options.min_lr / peak : options.min_lr_rate.value_or(0.0);
}

double Schedule::stable_decay_factor(double step) const {
  const double least = options.min_lr_ratio.value_or(0.0);
  const auto decay_steps = static_cast<double>(options.num_decay_steps.value_or(0));
  const auto decay_begin = static_cast<double>(warmup_steps + stable_steps());
  if (step < decay_begin) return 1.0;
  if (step >= decay_begin + decay_steps) return least;
  const double progress = (step - decay_begin) / std::max(1.0, decay_steps);
  double factor = 0.0;
  if (options.decay_type == "linear")
    factor = 1.0 - progress;
  else if (options.decay_type == "1-sqrt")
    factor = 1.0 - std::sqrt(progress);
  else
    factor = half_cosine(options.num_cycles.value_or(0.5) * 2.0 * progress);
  return std::max(0.0, factor * (1.0 - least) + least);
}

std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps) {
  return static_cast<std::int64_t>(std::ceil(ratio * static_cast<double>(total_steps)));
}

}  // namespace bezel::train
