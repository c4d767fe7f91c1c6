#include "bezel/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/train/forward.h"
#include "bezel/train/label_scores.h"
#include "bezel/train/residency.h"

namespace bezel::train {
namespace {

SampleScore score(gemma4::Model& model, const Residency& residency, const data::Batch& batch) {
  const LabelScores scores = score_labels(label_states(model, batch, residency.observer()), *model->output_embedding(),
                                          batch.label_ids, model->config().text.final_logit_softcapping);
  residency.after(gemma4::Phase::head());
  return {scores.nll.sum(torch::kDouble).item<double>(), scores.correct.sum().item<std::int64_t>()};
}

EvaluatedSample evaluate_sample(gemma4::Model& model, const Residency& residency, const lora::Selection* adapter,
                                const data::Batch& batch) {
  EvaluatedSample sample{.tokens = batch.num_tokens, .label_tokens = batch.num_labels()};
  if (adapter == nullptr) {
    sample.base = score(model, residency, batch);
    return sample;
  }
  sample.adapter = score(model, residency, batch);
  const lora::ScopedAdapterDisable base(*adapter);
  sample.base = score(model, residency, batch);
  return sample;
}

/// Answers of the model as it is, and of its base.
class Answerer {
 public:
  Answerer(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
           const AnswerOptions& options)
      : pinned_(model), generator_(model), adapter_(adapter), data_(data), options_(options) {}

  std::optional<AnsweredSample> operator()(std::size_t idx) {
    const auto asked = data_.load_prompt(idx);
    if (!asked) return std::nullopt;
    AnsweredSample sample{.prompt = asked->prompt, .expected = asked->answer};
    if (adapter_ == nullptr) {
      sample.base = answer(*asked);
      return sample;
    }
    sample.adapter = answer(*asked);
    const lora::ScopedAdapterDisable base(*adapter_);
    sample.base = answer(*asked);
    return sample;
  }

 private:
  SampleAnswer answer(const data::PromptSample& asked) {
    generate::Answer said = generate::greedy_answer(generator_, data_.tokenizer(), asked.sample, options_.limits);
    const data::AnswerScore score = data::score_answer(said.text, asked.answer, options_.ignore_case);
    return {std::move(said), score};
  }

  PinnedDecoder pinned_;
  generate::Generator generator_;
  const lora::Selection* adapter_;
  const data::Dataset& data_;
  AnswerOptions options_;
};

std::vector<PairedSums> paired_answers(const Evaluation& evaluation, bool data::AnswerScore::*member) {
  std::vector<PairedSums> sums;
  for (const EvaluatedSample& sample : evaluation.samples) {
    if (!sample.answered) continue;
    const SampleAnswer& adapter = sample.answered->adapter.value();
    sums.push_back({sample.answered->base.score.*member ? 1.0 : 0.0, adapter.score.*member ? 1.0 : 0.0, 1.0});
  }
  return sums;
}

template <typename Value>
std::vector<PairedSums> paired_scores(const Evaluation& evaluation, Value SampleScore::*member) {
  std::vector<PairedSums> sums;
  for (const EvaluatedSample& sample : evaluation.samples) {
    TORCH_CHECK(sample.adapter, "no adapter was evaluated");
    sums.push_back({static_cast<double>(sample.base.*member), static_cast<double>((*sample.adapter).*member),
                    static_cast<double>(sample.label_tokens)});
  }
  return sums;
}

}  // namespace

void for_each_sample(gemma4::Model& model, const data::Dataset& data, const EvaluateOptions& options,
                     std::vector<std::string>& bad, const std::function<void(std::size_t)>& body) {
  const at::NoGradGuard no_grad;
  model->eval();
  const std::size_t total = options.limit > 0 ? std::min(options.limit, data.size()) : data.size();
  for (std::size_t i = 0; i < total; ++i) {
    try {
      body(i);
    } catch (const Error& error) {
      if (!options.skip_bad_samples || error.kind() != ErrorKind::kData) throw;
      bad.push_back(error.what());
    }
    if (options.on_sample) options.on_sample(i + 1, total);
  }
}

Evaluation evaluate(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                    const EvaluateOptions& options) {
  const Residency residency(model);
  Evaluation evaluation;
  std::optional<Answerer> answer;
  if (options.answers) answer.emplace(model, adapter, data, *options.answers);
  for_each_sample(model, data, options, evaluation.bad, [&](std::size_t i) {
    const data::Sample sample = data.load(i);
    const data::Batch batch = data::collate({&sample, 1}, model->config().text.pad_token_id);
    EvaluatedSample evaluated = evaluate_sample(model, residency, adapter, batch.to(options.device));
    evaluated.line = sample.line;
    if (answer) evaluated.answered = (*answer)(i);
    evaluation.samples.push_back(std::move(evaluated));
  });
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

AnswerRates answer_rates(const Evaluation& evaluation, bool of_adapter) {
  AnswerRates rates;
  for (const EvaluatedSample& sample : evaluation.samples) {
    if (!sample.answered) continue;
    const SampleAnswer& answer = of_adapter ? sample.answered->adapter.value() : sample.answered->base;
    ++rates.samples;
    rates.unfinished += !answer.said.finished;
    rates.exact += answer.score.exact;
    rates.contains += answer.score.contains;
  }
  const auto samples = static_cast<double>(std::max<std::int64_t>(1, rates.samples));
  rates.exact /= samples;
  rates.contains /= samples;
  return rates;
}

std::vector<PairedSums> paired_losses(const Evaluation& evaluation) {
  return paired_scores(evaluation, &SampleScore::loss_sum);
}

std::vector<PairedSums> paired_correct(const Evaluation& evaluation) {
  return paired_scores(evaluation, &SampleScore::correct);
}

std::vector<PairedSums> paired_exact(const Evaluation& evaluation) {
  return paired_answers(evaluation, &data::AnswerScore::exact);
}

std::vector<PairedSums> paired_contains(const Evaluation& evaluation) {
  return paired_answers(evaluation, &data::AnswerScore::contains);
}

}  // namespace bezel::train
