#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/train/evaluate.h"

namespace bezel::train {

/// What one model says of both answers of a pair: log probabilities, sums over the tokens of each answer.
struct PairScore {
  double chosen = 0.0;
  double rejected = 0.0;
};

struct EvaluatedPair {
  std::size_t line = 0;  ///< in the data file, from 1
  std::int64_t tokens = 0;
  std::int64_t chosen_tokens = 0;  ///< of the answers alone
  std::int64_t rejected_tokens = 0;
  PairScore base{};
  std::optional<PairScore> adapter{};
};

struct PairEvaluation {
  std::vector<EvaluatedPair> pairs;
  std::vector<std::string> bad;  ///< messages of samples left out
  SharedTokens shared{};
};

/// Scores every pair of `data` (LineKind::kPair) with the model as it is, and where `adapter` is given with it set
/// aside as well. Throws Error for media that cannot be decoded.
PairEvaluation evaluate_pairs(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                              const EvaluateOptions& options);

/// Shares of the pairs, and means over them.
struct PairMeans {
  double accuracy = 0.0;            ///< pairs whose chosen answer is the likelier one
  double per_token_accuracy = 0.0;  ///< the same by the mean over the tokens of an answer
  double chosen = 0.0;              ///< log probability
  double rejected = 0.0;
};

/// Of the base, or of the adapter, which every pair then has.
PairMeans pair_means(const PairEvaluation& evaluation, bool of_adapter);

/// The adapter against the base, which is what DPO rewards (times beta).
struct RewardMeans {
  double accuracy = 0.0;  ///< pairs whose chosen answer gained more
  double margin = 0.0;    ///< how much more, in nats
};
RewardMeans reward_means(const PairEvaluation& evaluation);

}  // namespace bezel::train
