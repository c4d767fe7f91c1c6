// What a BatchPlan does about samples that begin alike.
#include <algorithm>
#include <utility>

#include "bezel/data/shared_prefix.h"
#include "bezel/train/batch_plan.h"

namespace bezel::train {
namespace {

std::size_t soft_tokens_of(const data::SampleSize& size) {
  std::size_t count = 0;
  for (const data::MediaCount& media : size.media.values) count += media.soft_tokens;
  return count;
}

}  // namespace

// Samples of a step may be divided anew: a micro-batch stays as large as it could be without sharing.
MicroBatchLimits BatchPlan::shared_limits() const {
  std::size_t tokens = 0, soft_tokens = 0;
  for (const std::size_t idx : train_idx_) {
    tokens = std::max(tokens, train_->num_tokens(idx));
    soft_tokens = std::max(soft_tokens, soft_tokens_of(train_->sample_size(idx)));
  }
  const auto rows = static_cast<std::size_t>(config_.micro_batch_size);
  const std::size_t packed = rows * static_cast<std::size_t>(config_.max_seq_length);
  MicroBatchLimits limits{.tokens = rows * tokens, .soft_tokens = rows * soft_tokens, .strangers = rows};
  if (packs_) limits = {.tokens = packed, .soft_tokens = packed, .strangers = SIZE_MAX};
  return limits;
}

// The share of the tokens of an epoch's first steps that sharing saves, by the samples' hashes.
double BatchPlan::saved_share(const data::SampleRows& rows) const {
  constexpr std::size_t kSamples = 4096;
  const bool divides = !config_.preference.uses_preferences();
  const auto step_rows = static_cast<std::size_t>(config_.micro_batch_size * (divides ? micro_batches(config_) : 1));
  const MicroBatchLimits limits =
      divides ? limits_ : MicroBatchLimits{.tokens = SIZE_MAX, .soft_tokens = SIZE_MAX, .strangers = SIZE_MAX};
  std::size_t tokens = 0, computed = 0;
  for (std::size_t row = 0; row < std::min(rows.size(), std::max(kSamples, step_rows)); row += step_rows) {
    const std::span<const std::size_t> step = rows.rows(row, row + step_rows);
    const auto own = [&](std::size_t i) { return train_->num_tokens(step[i]) - train_->pair_prefix(step[i]); };
    const StepSamples samples{
        .count = step.size(),
        .common = [&](std::size_t a, std::size_t b) { return train_->prefix(step[a]).common(train_->prefix(step[b])); },
        .tokens = own,
        .soft_tokens = [&](std::size_t i,
                           std::size_t from) { return from == 0 ? soft_tokens_of(train_->sample_size(step[i])) : 0; }};
    for (const std::size_t idx : step) tokens += train_->num_tokens(idx);
    computed += divide_step(samples, limits).num_computed;
  }
  return tokens == 0 ? 0.0 : 1.0 - static_cast<double>(computed) / static_cast<double>(tokens);
}

void BatchPlan::plan_sharing() {
  if (!config_.share_prefixes.value_or(true)) return;
  limits_ = shared_limits();
  const double plain = saved_share(*epoch_rows(0));
  double grouped = plain;
  if (config_.shuffle && !packs_ && !config_.preference.uses_preferences()) {
    group_of_ = group_by_prefix(*train_, train_idx_);
    ordered_epoch_ = -1;
    grouped = saved_share(*epoch_rows(0));
  }
  prefix_plan_ = plan_prefixes(config_, plain, grouped);
  if (prefix_plan_.groups) return;
  group_of_.clear();
  ordered_epoch_ = -1;
}

std::vector<data::Batch> BatchPlan::shared_batches(std::span<const std::size_t> samples, WorkNote& note,
                                                   Share share) const {
  std::vector<std::size_t> used;
  std::vector<data::Sample> loaded = load(*train_, samples, used, note);
  const StepSamples step{
      .count = loaded.size(),
      .common = [&](std::size_t a, std::size_t b) { return data::common_prefix(loaded[a], loaded[b]); },
      .tokens = [&](std::size_t i) { return loaded[i].input_ids.size(); },
      .soft_tokens =
          [&](std::size_t i, std::size_t from) {
            const auto& types = loaded[i].token_types;
            return types.size() - from -
                   static_cast<std::size_t>(std::ranges::count(std::span(types).subspan(from), 0));
          }};
  const auto parts = divide_step(step, limits_).micro_batches;
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
