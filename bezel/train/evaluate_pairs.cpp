#include "bezel/train/evaluate_pairs.h"

#include <algorithm>
#include <numeric>
#include <span>

#include <ATen/ATen.h>

#include "bezel/data/preference_batch.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/train/preference_objective.h"
#include "bezel/train/residency.h"

namespace bezel::train {
namespace {

double item_of(const torch::Tensor& values, std::int64_t idx) { return values[idx].item<double>(); }

// Of pair `i` of a batch.
PairScore scores_of(const AnswerLogps& logps, std::int64_t i) {
  return {item_of(logps.sums, 2 * i), item_of(logps.sums, 2 * i + 1)};
}

// The pairs of `batch`, without their tokens and lines.
std::vector<EvaluatedPair> score_pairs(gemma4::Model& model, const Residency& residency, const lora::Selection* adapter,
                                       const data::Batch& batch) {
  AnswerLogps logps = answer_logps(model, batch, residency.observer());
  std::vector<EvaluatedPair> pairs;
  for (std::int64_t i = 0; i < logps.sums.size(0) / 2; ++i)
    pairs.push_back({.chosen_tokens = static_cast<std::int64_t>(item_of(logps.tokens, 2 * i)),
                     .rejected_tokens = static_cast<std::int64_t>(item_of(logps.tokens, 2 * i + 1)),
                     .base = scores_of(logps, i)});
  if (adapter == nullptr) return pairs;
  const lora::ScopedAdapterDisable base(*adapter);
  logps = answer_logps(model, batch, residency.observer());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    pairs[i].adapter = pairs[i].base;
    pairs[i].base = scores_of(logps, static_cast<std::int64_t>(i));
  }
  return pairs;
}

// Mean of `value` over the pairs.
template <typename Value>
double mean_of(const PairEvaluation& evaluation, Value value) {
  double sum = 0.0;
  for (const EvaluatedPair& pair : evaluation.pairs) sum += static_cast<double>(value(pair));
  return sum / static_cast<double>(std::max<std::size_t>(1, evaluation.pairs.size()));
}

}  // namespace

PairEvaluation evaluate_pairs(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                              const EvaluateOptions& options) {
  const Residency residency(model);
  PairEvaluation evaluation;
  std::map<std::size_t, EvaluatedPair> evaluated;
  std::map<std::size_t, std::string> bad;
  for_each_batch(model, data, options, bad, [&](const LoadedSamples& loaded) {
    std::vector<std::int64_t> numbers(loaded.rows.size());
    std::iota(numbers.begin(), numbers.end(), std::int64_t{0});
    const data::Batch batch =
        data::collate_answers(loaded.rows, numbers, model->config().text.pad_token_id, loaded.shares);
    std::vector<EvaluatedPair> pairs = score_pairs(model, residency, adapter, batch.to(options.device));
    evaluation.shared.shares = loaded.shares;
    evaluation.shared.tokens += batch.num_tokens;
    evaluation.shared.computed += loaded.shares ? batch.input_ids.numel() : batch.num_tokens;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const std::size_t idx = loaded.idx[i];
      pairs[i].line = data.line(idx);
      for (const data::Sample& row : std::span(loaded.rows).subspan(2 * i, 2))
        pairs[i].tokens += static_cast<std::int64_t>(row.input_ids.size());
      evaluated[idx] = pairs[i];
    }
  });
  for (const auto& [idx, pair] : evaluated) evaluation.pairs.push_back(pair);
  for (auto& [idx, message] : bad) evaluation.bad.push_back(std::move(message));
  return evaluation;
}

PairMeans pair_means(const PairEvaluation& evaluation, bool of_adapter) {
  const auto score = [&](const EvaluatedPair& pair) { return of_adapter ? pair.adapter.value() : pair.base; };
  PairMeans means;
  means.accuracy =
      mean_of(evaluation, [&](const EvaluatedPair& pair) { return score(pair).chosen > score(pair).rejected; });
  means.per_token_accuracy = mean_of(evaluation, [&](const EvaluatedPair& pair) {
    return score(pair).chosen / static_cast<double>(pair.chosen_tokens) >
           score(pair).rejected / static_cast<double>(pair.rejected_tokens);
  });
  means.chosen = mean_of(evaluation, [&](const EvaluatedPair& pair) { return score(pair).chosen; });
  means.rejected = mean_of(evaluation, [&](const EvaluatedPair& pair) { return score(pair).rejected; });
  return means;
}

RewardMeans reward_means(const PairEvaluation& evaluation) {
  const auto margin = [](const EvaluatedPair& pair) {
    return (pair.adapter->chosen - pair.base.chosen) - (pair.adapter->rejected - pair.base.rejected);
  };
  return {.accuracy = mean_of(evaluation, [&](const EvaluatedPair& pair) { return margin(pair) > 0; }),
          .margin = mean_of(evaluation, margin)};
}

}  // namespace bezel::train
