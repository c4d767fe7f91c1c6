#include "bezel/train/stopping.h"

#include <cmath>

namespace bezel::train {
namespace {

constexpr std::string_view kMetricNames[] = {"eval_loss", "eval_mean_token_accuracy", "eval_exact_match"};

}  // namespace

std::span<const std::string_view> metric_names() { return kMetricNames; }

std::string_view metric_name(BestMetric metric) { return kMetricNames[static_cast<std::size_t>(metric)]; }

bool is_greater_better(BestMetric metric) { return metric != BestMetric::kLoss; }

bool count_evaluation(TrainerState& state, double value, const StoppingOptions& options) {
  const bool is_better =
      std::isfinite(value) &&
      (!state.best || (is_greater_better(options.metric) ? value > state.best->value : value < state.best->value));
  const bool gains = is_better && (!state.best || std::abs(value - state.best->value) > options.threshold);
  state.evals_without_gain = gains ? 0 : state.evals_without_gain + 1;
  if (is_better) state.best = BestEval{value, state.steps_done};
  return is_better;
}

bool stops_early(const TrainerState& state, const StoppingOptions& options) {
  return options.patience && state.evals_without_gain >= *options.patience;
}

}  // namespace bezel::train
