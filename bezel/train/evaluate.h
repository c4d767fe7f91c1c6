#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bezel/data/answer.h"
#include "bezel/data/dataset.h"
#include "bezel/gemma4/model.h"
#include "bezel/generate/answer.h"
#include "bezel/lora/targets.h"
#include "bezel/train/paired_interval.h"

namespace bezel::train {

/// What one model says of a sample's label tokens.
struct SampleScore {
  double loss_sum = 0.0;     ///< of -log p over the label tokens
  std::int64_t correct = 0;  ///< label tokens that are the most likely one
};

/// What one model says to a sample's prompt.
struct SampleAnswer {
  generate::Answer said;
  data::AnswerScore score;
};

/// A sample's last answer as it should be, and as the models give it.
struct AnsweredSample {
  std::string prompt;
  std::string expected;
  SampleAnswer base{};
  std::optional<SampleAnswer> adapter{};
};

struct EvaluatedSample {
  std::size_t line = 0;  ///< in the data file, from 1
  std::int64_t tokens = 0;
  std::int64_t label_tokens = 0;  ///< at least 1
  SampleScore base{};
  std::optional<SampleScore> adapter{};
  std::optional<AnsweredSample> answered{};  ///< when asked for, of samples that have a prompt
};

/// What of an evaluation's tokens was computed.
struct SharedTokens {
  bool shares = false;        ///< what samples begin alike by was computed once
  std::int64_t tokens = 0;    ///< of all samples
  std::int64_t computed = 0;  ///< of them

  /// Share of the tokens that was not computed.
  double saved() const { return tokens == 0 ? 0.0 : 1.0 - static_cast<double>(computed) / static_cast<double>(tokens); }
};

struct Evaluation {
  std::vector<EvaluatedSample> samples;
  std::vector<std::string> bad;  ///< messages of samples left out: media that cannot be decoded
  SharedTokens shared{};
};

/// How answers are made and compared.
struct AnswerOptions {
  generate::GenerateOptions limits;
  bool ignore_case = false;  ///< see data::score_answer
};

struct EvaluateOptions {
  torch::Device device = torch::kCPU;
  std::size_t limit = 0;  ///< so many samples from the start; 0: all
  bool skip_bad_samples = false;
  std::optional<bool> share_prefixes{};    ///< compute once what samples begin alike by; nothing: where it pays
  std::optional<AnswerOptions> answers{};  ///< let the models answer as well, greedily
  std::function<void(std::size_t done, std::size_t total)> on_sample{};
};

/// Samples that go through the model together, each only once.
struct LoadedSamples {
  std::vector<std::size_t> idx;    ///< of each sample
  std::vector<data::Sample> rows;  ///< of all of them: Dataset::load_rows
  bool shares = false;             ///< what they begin alike by is to be computed once
};

/// Calls `body` with all samples that `options` ask for, without a graph and with the model in evaluation mode: one at
/// a time and in order, or where prefixes are shared those together that begin alike. What cannot be read goes into
/// `bad`, by sample, where it is to be skipped; `body` is then called anew with each other sample by itself, and has to
/// keep nothing of a call that throws.
void for_each_batch(gemma4::Model& model, const data::Dataset& data, const EvaluateOptions& options,
                    std::map<std::size_t, std::string>& bad, const std::function<void(const LoadedSamples&)>& body);

/// Scores every sample with the model as it is, and where `adapter` is given with it set aside as well. Throws Error
/// for media that cannot be decoded.
Evaluation evaluate(gemma4::Model& model, const lora::Selection* adapter, const data::Dataset& data,
                    const EvaluateOptions& options);

/// Means over all label tokens.
struct EvaluationMeans {
  std::int64_t label_tokens = 0;
  double loss = 0.0;
  double perplexity = 0.0;  ///< exp(loss)
  double accuracy = 0.0;    ///< share of label tokens that are the most likely one
};

/// Of the base, or of the adapter, which every sample then has.
EvaluationMeans evaluation_means(const Evaluation& evaluation, bool of_adapter);

/// Shares of the samples that were answered.
struct AnswerRates {
  std::int64_t samples = 0;
  std::int64_t unfinished = 0;  ///< answers that the bound on their length cut off
  double exact = 0.0;
  double contains = 0.0;
};

/// Of the base, or of the adapter, which every sample then has.
AnswerRates answer_rates(const Evaluation& evaluation, bool of_adapter);

/// Sums of each sample for paired_difference: adapter against base, loss or number of correct tokens.
std::vector<PairedSums> paired_losses(const Evaluation& evaluation);
std::vector<PairedSums> paired_correct(const Evaluation& evaluation);
/// The same for answers, which weigh 1 each.
std::vector<PairedSums> paired_exact(const Evaluation& evaluation);
std::vector<PairedSums> paired_contains(const Evaluation& evaluation);

}  // namespace bezel::train
