#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "bezel/train/trainer_state.h"

namespace bezel::train {

/// What evaluations are compared by.
enum class BestMetric {
  kLoss,           ///< mean over the objective's units
  kTokenAccuracy,  ///< share of label tokens that are the most likely one
  kExactMatch,     ///< share of held-out samples whose generated answer is theirs
};

/// "eval_loss", "eval_mean_token_accuracy", "eval_exact_match", in the order of BestMetric; keys of metrics.jsonl.
std::span<const std::string_view> metric_names();
std::string_view metric_name(BestMetric metric);
bool is_greater_better(BestMetric metric);

struct StoppingOptions {
  BestMetric metric = BestMetric::kLoss;
  std::optional<std::int64_t> patience = {};  ///< evaluations in a row without gain after which a run stops
  double threshold = 0.0;                     ///< what is no more than this better than the best is no gain
};

/// Takes the metric of an evaluation after state.steps_done into state.best and state.evals_without_gain. Returns
/// whether it is the best so far, by however little. NaN and Inf are never. Reference: transformers'
/// EarlyStoppingCallback.
bool count_evaluation(TrainerState& state, double value, const StoppingOptions& options);

/// Whether patience is at its end.
bool stops_early(const TrainerState& state, const StoppingOptions& options);

}  // namespace bezel::train
