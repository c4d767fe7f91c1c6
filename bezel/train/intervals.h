#pragma once

#include <cstdint>
#include <string_view>

#include "bezel/train/config.h"

namespace bezel::train {

/// Updates between two evaluations, checkpoints and lines of the log.
struct Intervals {
  std::int64_t eval = 0;        ///< 0: no evaluation
  std::int64_t save = 0;        ///< 0: only at the end
  std::int64_t logging = 1;     ///< at least 1
  std::int64_t first_eval = 0;  ///< no evaluation before this update, but the last one
  bool save_best = false;       ///< after evaluations that are the best so far
};

/// What eval_steps, eval_strategy, evals_per_epoch and their like come to in a run of `total_steps` updates. As in
/// transformers, a number below 1 is a share of all updates, rounded up; a strategy of epoch or no counts before the
/// steps, and evaluation by steps without eval_steps follows logging_steps.
Intervals make_intervals(const TrainConfig& config, std::int64_t total_steps, std::int64_t steps_per_epoch);

/// Whether the config names a time for evaluations.
bool asks_for_evaluation(const TrainConfig& config);

/// The first key of a config that goes by what evaluations find; "" where none does.
std::string_view key_needing_evaluation(const TrainConfig& config);

}  // namespace bezel::train
