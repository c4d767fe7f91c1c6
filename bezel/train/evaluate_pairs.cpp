#include "bezel/train/evaluate_pairs.h"

#include <algorithm>
#include <array>

#include <ATen/ATen.h>

#include "bezel/data/preference_batch.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/train/preference_objective.h"
#include "bezel/train/residency.h"

namespace bezel::train {
namespace {

double item_of(const torch::Tensor& values, std::int64_t idx) { return values[idx].item<double>(); }

AnswerLogps score_pair(gemma4::Model& model, const Residency& residency, const data::Batch& batch) {
  return answer_logps(model, batch, residency.observer());
}

PairScore scores_of(const AnswerLogps& logps) { return {item_of(logps.sums, 0), item_of(logps.sums, 1)}; }

EvaluatedPair evaluate_pair(gemma4::Model& model, const Residency& residency, const lora::Selection* adapter,
                            const data::Batch& batch) {
  const AnswerLogps logps = score_pair(model, residency, batch);
  EvaluatedPair pair{.tokens = batch.num_tokens,
                     .chosen_tokens = static_cast<std::int64_t>(item_of(logps.tokens, 0)),
                     .rejected_tokens = static_cast<std::int64_t>(item_of(logps.tokens, 1)),
                     .base = scores_of(logps)};
  if (adapter == nullptr) return pair;
  pair.adapter = pair.base;
  const lora::ScopedAdapterDisable base(*adapter);
  pair.base = scores_of(score_pair(model, residency, batch));
  return pair;
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
  constexpr std::array<std::int64_t, 2> kNumbers = {0, 1};
  PairEvaluation evaluation;
  for_each_sample(model, data, options, evaluation.bad, [&](std::size_t i) {
    const std::vector<data::Sample> rows = data.load_rows(i);
    const data::Batch batch = data::collate_answers(rows, kNumbers, model->config().text.pad_token_id);
    evaluation.pairs.push_back(evaluate_pair(model, residency, adapter, batch.to(options.device)));
    evaluation.pairs.back().line = data.line(i);
  });
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
