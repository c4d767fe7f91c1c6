#pragma once

#include <cstdint>
#include <functional>
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

struct Evaluation {
  std::vector<EvaluatedSample> samples;
  std::vector<std::string> bad;  ///< messages of samples left out: media that cannot be decoded
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
  std::optional<AnswerOptions> answers{};  ///< let the models answer as well, greedily
  std::function<void(std::size_t done, std::size_t total)> on_sample{};
};

/// Calls `body` with the index of each sample that `options` ask for, in order, without a graph and with the model in
/// evaluation mode. Of data that cannot be read the message goes into `bad` where they are to be skipped.
void for_each_sample(gemma4::Model& model, const data::Dataset& data, const EvaluateOptions& options,
                     std::vector<std::string>& bad, const std::function<void(std::size_t)>& body);

/// Scores every sample with the model as it is, and where `adapter` is given with it set aside as well. Samples go
/// through one at a time, so that numbers do not depend on batching. Throws Error for media that cannot be decoded.
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
