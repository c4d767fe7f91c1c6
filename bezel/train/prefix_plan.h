#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// What a micro-batch of samples that share prefixes may hold at most.
struct MicroBatchLimits {
  std::size_t tokens = 0;       ///< that are computed
  std::size_t soft_tokens = 0;  ///< that encoders make
  std::size_t strangers = 0;    ///< samples that share nothing with those before
};

/// What dividing a step asks of its samples, numbered from 0.
struct StepSamples {
  std::size_t count = 0;
  std::function<std::size_t(std::size_t a, std::size_t b)> common;               ///< tokens they begin alike by
  std::function<std::size_t(std::size_t sample)> tokens;                         ///< of a sample
  std::function<std::size_t(std::size_t sample, std::size_t from)> soft_tokens;  ///< behind its first `from` tokens
};

/// Micro-batches of a step: each sample joins the one that it shares most with and that has space left. Which samples
/// there are stays as it is, and the sum of their losses with it.
struct StepDivision {
  std::vector<std::vector<std::size_t>> micro_batches;  ///< numbers of samples
  std::size_t num_computed = 0;                         ///< tokens
};
StepDivision divide_step(const StepSamples& samples, const MicroBatchLimits& limits);

/// What dividing asks of `samples` of `data`, by their hashes; both must outlive the result.
StepSamples hashed_samples(const data::Dataset& data, std::span<const std::size_t> samples);
/// The same of samples that are loaded, to the token.
StepSamples loaded_samples(std::span<const data::Sample> samples);

/// What `rows` rows of `samples` of `data`, each in a row of its own, hold at most.
MicroBatchLimits row_limits(const data::Dataset& data, std::span<const std::size_t> samples, std::size_t rows);

/// Numbers of groups of samples that begin alike: as long as their longest common beginning, or half as long. `samples`
/// are of `data`; the result has a number for each sample of `data`.
std::vector<std::size_t> group_by_prefix(const data::Dataset& data, std::span<const std::size_t> samples);

/// `samples` in another order: those of one group side by side, at most `most` of them, and these runs shuffled.
std::vector<std::size_t> gather_groups(std::span<const std::size_t> samples, std::span<const std::size_t> group_of,
                                       std::size_t most, std::uint64_t seed, std::uint64_t epoch);

/// What a run does about samples that begin alike.
struct PrefixPlan {
  bool shares = false;    ///< what samples of a step begin alike by is computed once
  bool groups = false;    ///< epochs keep samples that begin alike together
  double saved = 0.0;     ///< share of the tokens that is not computed, or would not be
  std::string note = {};  ///< what the user should hear, or ""
};

/// From this share of the tokens on, `share_prefixes: auto` shares, and reorders samples where that saves as much more.
inline constexpr double kWorthSharing = 0.1;

/// The plan for share_prefixes as configured, where the order of samples as it is saves `plain`, and one by groups
/// `grouped`.
PrefixPlan plan_prefixes(const TrainConfig& config, double plain, double grouped);

/// How the samples of an evaluation are put together. Nothing is drawn at random there, so that nothing is in the way.
struct EvalPlan {
  PrefixPlan prefixes = {};
  std::vector<std::vector<std::size_t>> batches = {};  ///< samples of each; empty where they come as they are
};

/// Of `samples` of `data`, those that begin alike side by side, with `share_prefixes` as configured.
EvalPlan plan_evaluation(const data::Dataset& data, std::span<const std::size_t> samples,
                         std::optional<bool> share_prefixes, const MicroBatchLimits& limits);
/// The decision alone, where sharing saves `saved`.
PrefixPlan plan_eval_prefixes(std::optional<bool> share_prefixes, double saved);

/// Tokens that a micro-batch of an evaluation may have in any case: it keeps no graph.
inline constexpr std::size_t kEvalTokens = 2048;

}  // namespace bezel::train
