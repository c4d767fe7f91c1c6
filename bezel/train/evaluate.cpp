#include "bezel/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/lora/set_aside.h"
#include "bezel/train/label_scores.h"

namespace bezel::train {
namespace {

SampleScore score(gemma4::Model& model, const data::Batch& batch) {
  const LabelScores scores = score_labels(model->label_states(batch), model->head(), batch.label_ids,
                                          model->config().text.final_logit_softcapping);
  return {scores.nll.sum(torch::kDouble).item<double>(), scores.correct.sum().item<std::int64_t>()};
}

EvaluatedSample evaluate_sample(gemma4::Model& model, const lora::Selection* adapter, const data::Batch& batch) {
  EvaluatedSample sample{.tokens = batch.num_tokens, .label_tokens = batch.num_labels()};
  if (adapter == nullptr) {
    sample.base = score(model, batch);
    return sample;
  }
  sample.adapter = score(model, batch);
  const lora::AdaptersSetAside base(*adapter);
  sample.base = score(model, batch);
  return sample;
}

std::optional<data::Sample> load(const data::Dataset& data, std::size_t idx, const EvaluateOptions& options,
                                 std::vector<std::string>& bad) {
  try {
    return data.load(idx);
  } catch (const Error& error) {
    if (!options.skip_bad_samples || error.kind() != ErrorKind::kData) throw;
    bad.push_back(error.what());
    return std::nullopt;
  }
}

template <typename Value>
std::vector<PairedSums> paired(const Evaluation& evaluation, Value SampleScore::*member) {
  std::vector<PairedSums> sums;
  for (const EvaluatedSample& sample : evaluation.samples) {
    TORCH_CHECK(sample.adapter, "no adapter was evaluated");
    sums.push_back({static_cast<double>(sample.base.*member), static_cast<double>((*sample.adapter).*member),
                    static_cast<double>(sample.label_tokens)});
  }
  return sums;
}

}  // namespace

Evaluation evaluate(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                    const EvaluateOptions& options) {
  const at::NoGradGuard no_grad;
  model->eval();
  const std::size_t total = options.limit > 0 ? std::min(options.limit, data.size()) : data.size();
  Evaluation evaluation;
  for (std::size_t i = 0; i < total; ++i) {
    if (const auto loaded = load(data, i, options, evaluation.bad)) {
      const data::Batch batch = data::collate({&*loaded, 1}, model->config().text.pad_token_id);
      evaluation.samples.push_back(evaluate_sample(model, adapter, batch.to(options.device)));
      evaluation.samples.back().line = loaded->line;
    }
    if (options.on_sample) options.on_sample(i + 1, total);
  }
  return evaluation;
}

EvaluationMeans evaluation_means(const Evaluation& evaluation, bool of_adapter) {
  double loss = 0.0, correct = 0.0;
  EvaluationMeans means;
  for (const EvaluatedSample& sample : evaluation.samples) {
    const SampleScore& score = of_adapter ? sample.adapter.value() : sample.base;
    loss += score.loss_sum;
    correct += static_cast<double>(score.correct);
    means.label_tokens += sample.label_tokens;
  }
  const auto tokens = static_cast<double>(std::max<std::int64_t>(1, means.label_tokens));
  means.loss = loss / tokens;
  means.perplexity = std::exp(means.loss);
  means.accuracy = correct / tokens;
  return means;
}

std::vector<PairedSums> paired_losses(const Evaluation& evaluation) {
  return paired(evaluation, &SampleScore::loss_sum);
}

std::vector<PairedSums> paired_correct(const Evaluation& evaluation) {
  return paired(evaluation, &SampleScore::correct);
}

}  // namespace bezel::train
