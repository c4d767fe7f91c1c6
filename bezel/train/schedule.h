#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace bezel::train {

/// How the learning rate moves after warm-up; names and formulas are those of transformers' SchedulerType.
enum class ScheduleKind {
  kCosine,                 ///< half a cosine, down to 0
  kLinear,                 ///< a straight line, down to 0
  kConstant,               ///< stays; has no warm-up
  kConstantWithWarmup,     ///< stays
  kCosineWithRestarts,     ///< num_cycles half cosines, each from the peak down to 0
  kCosineWithMinLr,        ///< half a cosine, down to min_lr
  kCosineWarmupWithMinLr,  ///< the same, one update ahead, with a warm-up that does not begin at 0
  kPolynomial,             ///< (1 - progress)^power, down to lr_end
  kInverseSqrt,            ///< 1 / sqrt(updates)
  kWarmupStableDecay,      ///< stays for num_stable_steps, then falls over num_decay_steps
};

/// "cosine", "cosine_with_restarts" …, in the order of ScheduleKind.
std::span<const std::string_view> schedule_names();
/// Throws nothing; no value for a name that is no schedule of Bezel's.
std::optional<ScheduleKind> find_schedule(std::string_view name);

/// What a kind takes beside the warm-up: transformers' lr_scheduler_kwargs. What is not given has transformers'
/// default.
struct ScheduleOptions {
  std::optional<double> num_cycles = {};              ///< cosine: in whole waves, 0.5; with restarts: their number, 1
  std::optional<double> min_lr = {};                  ///< or min_lr_rate, not both
  std::optional<double> min_lr_rate = {};             ///< share of the peak
  std::optional<double> warmup_lr_rate = {};          ///< share of the peak where warm-up begins
  std::optional<double> lr_end = {};                  ///< 1e-7
  std::optional<double> power = {};                   ///< 1
  std::optional<std::int64_t> timescale = {};         ///< the warm-up's length, or 10,000
  std::optional<std::int64_t> num_stable_steps = {};  ///< what warm-up and decay leave
  std::optional<std::int64_t> num_decay_steps = {};   ///< has no default
  std::optional<double> min_lr_ratio = {};            ///< share of the peak; 0
  std::string warmup_type = {};                       ///< "linear" (default), "cosine" or "1-sqrt"
  std::string decay_type = {};                        ///< "cosine" (default), "linear" or "1-sqrt"

  bool operator==(const ScheduleOptions&) const = default;
};

/// Names of the options that `kind` takes.
std::span<const std::string_view> options_of(ScheduleKind kind);

/// Learning rate by update, as transformers 5.23's get_scheduler makes it: the rate climbs from 0 over the warm-up, so
/// the first update of a warm-up has rate 0.
struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 0.0;              ///< learning rate after warm-up
  std::int64_t warmup_steps = 0;  ///< updates
  std::int64_t total_steps = 0;   ///< updates of the whole run
  ScheduleOptions options = {};

  /// Rate of update `step`, counted from 0.
  double rate(std::int64_t step) const;
  /// Updates of the stable phase of kWarmupStableDecay; negative when warm-up and decay are longer than the run.
  std::int64_t stable_steps() const;

 private:
  double factor(std::int64_t step) const;
  double warmup_factor(double step) const;
  double decay_factor(double step) const;
  double cosine_factor(double progress) const;
  double stable_decay_factor(double step) const;
  double min_rate() const;
};

/// ceil(ratio * total_steps): transformers' warm-up length from a ratio.
std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps);

}  // namespace bezel::train
