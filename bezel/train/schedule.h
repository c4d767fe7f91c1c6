#pragma once

#include <cstdint>

namespace bezel::train {

/// How the learning rate moves after warm-up.
enum class ScheduleKind {
  kCosine,              ///< half a cosine, down to 0
  kLinear,              ///< a straight line, down to 0
  kConstant,            ///< stays; has no warm-up
  kConstantWithWarmup,  ///< stays
};

/// Learning rate by update, as transformers' get_{cosine,linear,constant}_schedule_with_warmup and
/// get_constant_schedule: the rate climbs from 0 over the warm-up, so the first update of a warm-up has rate 0.
struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 0.0;              ///< learning rate after warm-up
  std::int64_t warmup_steps = 0;  ///< updates
  std::int64_t total_steps = 0;   ///< updates of the whole run

  /// Rate of update `step`, counted from 0.
  double rate(std::int64_t step) const;
};

/// ceil(ratio * total_steps): transformers' warm-up length from a ratio.
std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps);

}  // namespace bezel::train
