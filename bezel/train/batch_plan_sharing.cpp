// What a BatchPlan does about samples that begin alike.
#include <algorithm>
#include <utility>

#include "bezel/data/shared_prefix.h"
#include "bezel/train/batch_plan.h"

namespace bezel::train {

// Samples of a step may be divided anew: a micro-batch stays as large as it could be without sharing.
MicroBatchLimits BatchPlan::shared_limits(const data::Dataset& data, std::span<const std::size_t> samples) const {
  const auto rows = static_cast<std::size_t>(config_.micro_batch_size);
  const std::size_t packed = rows * static_cast<std::size_t>(config_.max_seq_length);
  if (packs_) return {.tokens = packed, .soft_tokens = packed, .strangers = SIZE_MAX};
  return row_limits(data, samples, rows);
}

// The share of the tokens of an epoch's first steps that sharing saves, by the samples' hashes.
double BatchPlan::saved_share(const data::Dataset& data, const data::SampleRows& rows) const {
  constexpr std::size_t kSamples = 4096;
  const bool divides = !config_.preference.uses_preferences();
  const auto step_rows = static_cast<std::size_t>(config_.micro_batch_size * (divides ? micro_batches(config_) : 1));
  const MicroBatchLimits limits =
      divides ? limits_ : MicroBatchLimits{.tokens = SIZE_MAX, .soft_tokens = SIZE_MAX, .strangers = SIZE_MAX};
  std::size_t tokens = 0, computed = 0;
  for (std::size_t row = 0; row < std::min(rows.size(), std::max(kSamples, step_rows)); row += step_rows) {
    const std::span<const std::size_t> step = rows.rows(row, row + step_rows);
    for (const std::size_t idx : step) tokens += data.num_tokens(idx);
    computed += divide_step(hashed_samples(data, step), limits).num_computed;
  }
  return tokens == 0 ? 0.0 : 1.0 - static_cast<double>(computed) / static_cast<double>(tokens);
}

void BatchPlan::plan_sharing() {
  if (!config_.share_prefixes.value_or(true)) return;
  limits_ = shared_limits(*train_, train_idx_);
  const double plain = saved_share(*train_, *epoch_rows(0));
  double grouped = plain;
  if (config_.shuffle && !packs_ && !config_.preference.uses_preferences()) {
    group_of_ = group_by_prefix(*train_, train_idx_);
    ordered_epoch_ = -1;
    grouped = saved_share(*train_, *epoch_rows(0));
  }
  prefix_plan_ = plan_prefixes(config_, plain, grouped);
  plan_eval_sharing();
  if (prefix_plan_.groups) return;
  group_of_.clear();
  ordered_epoch_ = -1;
}

// The loss of some preference objectives is a mean over the micro-batch, which is then left as it is.
void BatchPlan::plan_eval_sharing() {
  if (eval_idx_.empty()) return;
  const data::Dataset& data = eval_ ? *eval_ : *train_;
  if (config_.preference.uses_preferences()) {
    eval_plan_.prefixes = plan_eval_prefixes(config_.share_prefixes, saved_share(data, eval_rows_));
    return;
  }
  MicroBatchLimits limits = shared_limits(data, eval_idx_);
  limits.tokens = std::max(limits.tokens, kEvalTokens);
  eval_plan_ = plan_evaluation(data, eval_idx_, config_.share_prefixes, limits);
}

std::vector<data::Batch> BatchPlan::shared_batches(std::span<const std::size_t> samples, WorkNote& note,
                                                   Share share) const {
  std::vector<std::size_t> used;
  std::vector<data::Sample> loaded = load(*train_, samples, used, true, note);
  const auto parts = divide_step(loaded_samples(loaded), limits_).micro_batches;
  std::vector<data::Batch> batches;
  for (auto part = static_cast<std::size_t>(share.rank); part < parts.size();
       part += static_cast<std::size_t>(share.size)) {
    std::vector<data::Sample> together;
    for (const std::size_t i : parts[part]) together.push_back(std::move(loaded[i]));
    batches.push_back(data::collate_shared(together));
  }
  return batches;
}

}  // namespace bezel::train
