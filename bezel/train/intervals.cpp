#include "bezel/train/intervals.h"

#include <algorithm>
#include <cmath>

namespace bezel::train {
namespace {

struct Run {
  std::int64_t total_steps, steps_per_epoch;
};

std::int64_t every(double steps, const Run& run) {
  if (steps <= 0) return 0;
  const double updates = steps < 1 ? std::ceil(steps * static_cast<double>(run.total_steps)) : steps;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(updates));
}

std::int64_t part_of_epoch(std::int64_t times, const Run& run) {
  return std::max<std::int64_t>(1, (run.steps_per_epoch + times - 1) / times);
}

}  // namespace

Intervals make_intervals(const TrainConfig& config, std::int64_t total_steps, std::int64_t steps_per_epoch) {
  const Run run{total_steps, steps_per_epoch};
  Intervals out;
  if (config.logging_strategy == "no")
    out.logging = std::max<std::int64_t>(1, total_steps);
  else
    out.logging = config.logging_strategy == "epoch" ? steps_per_epoch : every(config.logging_steps, run);

  if (config.eval_strategy == "no")
    out.eval = 0;
  else if (config.evals_per_epoch)
    out.eval = *config.evals_per_epoch == 0 ? 0 : part_of_epoch(*config.evals_per_epoch, run);
  else if (config.eval_steps && config.eval_strategy != "epoch")
    out.eval = every(*config.eval_steps, run);
  else
    out.eval = config.eval_strategy == "steps" ? out.logging : steps_per_epoch;

  const bool by_epoch = config.eval_strategy == "epoch" || (config.eval_strategy.empty() && !config.eval_steps);
  const double delay = config.eval_delay * (by_epoch ? static_cast<double>(steps_per_epoch) : 1.0);
  out.first_eval = static_cast<std::int64_t>(std::ceil(delay));

  if (config.save_strategy == "no" || config.save_strategy == "best")
    out.save = 0;
  else if (config.saves_per_epoch)
    out.save = *config.saves_per_epoch == 0 ? 0 : part_of_epoch(*config.saves_per_epoch, run);
  else
    out.save = config.save_strategy == "epoch" ? steps_per_epoch : every(config.save_steps, run);
  out.save_best = out.save > 0 || config.save_strategy == "best";
  return out;
}

std::string_view key_needing_evaluation(const TrainConfig& config) {
  if (config.early_stopping_patience) return "early_stopping_patience";
  if (config.load_best_model_at_end) return "load_best_model_at_end";
  return config.save_strategy == "best" ? "save_strategy" : "";
}

bool asks_for_evaluation(const TrainConfig& config) {
  if (config.eval_strategy == "no") return false;
  return !config.eval_strategy.empty() || config.eval_steps || config.evals_per_epoch.value_or(0) > 0;
}

}  // namespace bezel::train
