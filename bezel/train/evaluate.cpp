#include "bezel/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <span>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/data/shared_prefix.h"
#include "bezel/error.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/train/forward.h"
#include "bezel/train/label_scores.h"
#include "bezel/train/prefix_plan.h"
#include "bezel/train/residency.h"

namespace bezel::train {
namespace {

// Labels that positions of a row predict, as data::collate counts them.
std::int64_t labels_of(const data::Sample& sample) {
  return std::ranges::count_if(std::span(sample.labels).subspan(1),
                               [](std::int64_t label) { return label != data::kIgnoreLabel; });
}

// Of each of `samples`, whose labels come one sample after the other.
std::vector<SampleScore> score(gemma4::Model& model, const Residency& residency, const data::Batch& batch,
                               std::span<const EvaluatedSample> samples) {
  const LabelScores scores = score_labels(label_states(model, batch, residency.observer()), *model->output_embedding(),
                                          batch.label_ids, model->config().text.final_logit_softcapping);
  residency.after(gemma4::Phase::head());
  std::vector<SampleScore> of_each;
  std::int64_t begin = 0;
  for (const EvaluatedSample& sample : samples) {
    of_each.push_back({scores.nll.narrow(0, begin, sample.label_tokens).sum(torch::kDouble).item<double>(),
                       scores.correct.narrow(0, begin, sample.label_tokens).sum().item<std::int64_t>()});
    begin += sample.label_tokens;
  }
  TORCH_CHECK(begin == scores.nll.size(0), "the batch has ", scores.nll.size(0), " labels, its samples ", begin);
  return of_each;
}

// Sets both scores of the samples, which are those of `batch`.
void score_both(gemma4::Model& model, const Residency& residency, const lora::Selection* adapter,
                const data::Batch& batch, std::span<EvaluatedSample> samples) {
  std::vector<SampleScore> scores = score(model, residency, batch, samples);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].base = scores[i];
  if (adapter == nullptr) return;
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].adapter = scores[i];
  const lora::ScopedAdapterDisable base(*adapter);
  scores = score(model, residency, batch, samples);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].base = scores[i];
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

void for_each_batch(gemma4::Model& model, const data::Dataset& data, const EvaluateOptions& options,
                    std::map<std::size_t, std::string>& bad, const std::function<void(const LoadedSamples&)>& body) {
  const at::NoGradGuard no_grad;
  model->eval();
  std::vector<std::size_t> all(options.limit > 0 ? std::min(options.limit, data.size()) : data.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  MicroBatchLimits limits = row_limits(data, all, 1);
  limits.tokens = std::max(limits.tokens, kEvalTokens);
  EvalPlan plan = plan_evaluation(data, all, options.share_prefixes, limits);
  if (!plan.prefixes.shares) {
    plan.batches.clear();
    for (const std::size_t idx : all) plan.batches.push_back({idx});
  }
  const std::function<void(std::span<const std::size_t>)> run = [&](std::span<const std::size_t> batch) {
    try {
      LoadedSamples loaded{.idx = {batch.begin(), batch.end()}, .rows = {}, .shares = plan.prefixes.shares};
      for (const std::size_t idx : batch) std::ranges::move(data.load_rows(idx), std::back_inserter(loaded.rows));
      if (loaded.shares) data::join_equal_media(loaded.rows);
      body(loaded);
    } catch (const Error& error) {
      if (!options.skip_bad_samples || error.kind() != ErrorKind::kData) throw;
      if (batch.size() == 1) bad[batch[0]] = error.what();
      for (std::size_t i = 0; batch.size() > 1 && i < batch.size(); ++i) run(batch.subspan(i, 1));
    }
  };
  std::size_t done = 0;
  for (const std::vector<std::size_t>& batch : plan.batches) {
    run(batch);
    done += batch.size();
    if (options.on_sample) options.on_sample(done, all.size());
  }
}

Evaluation evaluate(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                    const EvaluateOptions& options) {
  const Residency residency(model);
  Evaluation evaluation;
  std::map<std::size_t, EvaluatedSample> evaluated;
  std::map<std::size_t, std::string> bad;
  std::optional<Answerer> answer;
  if (options.answers) answer.emplace(model, adapter, data, *options.answers);
  for_each_batch(model, data, options, bad, [&](const LoadedSamples& loaded) {
    std::vector<EvaluatedSample> samples;
    for (const data::Sample& sample : loaded.rows)
      samples.push_back({.line = sample.line,
                         .tokens = static_cast<std::int64_t>(sample.input_ids.size()),
                         .label_tokens = labels_of(sample)});
    const data::Batch batch = loaded.rows.size() == 1 ? data::collate(loaded.rows, model->config().text.pad_token_id)
                                                      : data::collate_shared(loaded.rows);
    score_both(model, residency, adapter, batch.to(options.device), samples);
    for (std::size_t i = 0; answer && i < samples.size(); ++i) samples[i].answered = (*answer)(loaded.idx[i]);
    evaluation.shared.shares = loaded.shares;
    evaluation.shared.tokens += batch.num_tokens;
    evaluation.shared.computed += batch.input_ids.numel();
    for (std::size_t i = 0; i < samples.size(); ++i) evaluated[loaded.idx[i]] = std::move(samples[i]);
  });
  for (auto& [idx, sample] : evaluated) evaluation.samples.push_back(std::move(sample));
  for (auto& [idx, message] : bad) evaluation.bad.push_back(std::move(message));
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
