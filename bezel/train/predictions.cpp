#include "bezel/train/predictions.h"

#include <chrono>
#include <filesystem>

#include "bezel/data/jsonl.h"
#include "bezel/error.h"
#include "bezel/generate/settings.h"
#include "bezel/io/atomic_write.h"

namespace bezel::train {
namespace {

using Clock = std::chrono::steady_clock;
using io::Json;

constexpr std::int64_t kMaxNewTokens = 64;
constexpr std::int64_t kPrefillTokens = 512;
constexpr std::chrono::seconds kAnswerPatience(60);

}  // namespace

Json to_json(const SamplePrediction& prediction) {
  return {{"source", prediction.source},
          {"prompt", prediction.prompt},
          {"expected", prediction.expected},
          {"before", prediction.before},
          {"after", prediction.after}};
}

SamplePredictions::SamplePredictions(const TrainConfig& config, const BatchPlan& batches)
    : path_((std::filesystem::path(config.output_dir) / "predictions.jsonl").string()),
      tokenizer_(batches.train_data().tokenizer()) {
  if (config.sample_predictions == 0) return;
  limits_ = {.max_new_tokens = kMaxNewTokens,
             .stop_ids = generate::read_settings(config.base_model, tokenizer_, config.chat_template).stop_ids};
  for (BatchPlan::Prompt& prompt : batches.prompts(static_cast<std::size_t>(config.sample_predictions))) {
    predictions_.push_back({prompt.source, prompt.sample.prompt, prompt.sample.answer, "", ""});
    asked_.push_back(std::move(prompt.sample));
  }
}

void SamplePredictions::read_before() {
  std::error_code error;
  if (asked_.empty() || !std::filesystem::is_regular_file(path_, error)) return;
  const data::JsonlFile file(path_);
  for (std::size_t i = 0; i < file.size(); ++i) {
    const Json json = io::parse_json(file.read(i), file.source(i));
    const io::JsonView row(json, file.source(i));
    for (SamplePrediction& prediction : predictions_)
      if (prediction.source == row.at("source").text() && prediction.prompt == row.at("prompt").text())
        prediction.before = row.at("before").text();
  }
}

void SamplePredictions::ask(gemma4::Model& model, std::string SamplePrediction::*answer,
                            const std::function<bool()>& should_stop, gemma4::PhaseObserver observer) {
  const auto end = Clock::now() + kAnswerPatience;
  generate::Generator generator(model, kPrefillTokens, std::move(observer));
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    const auto goes_on = [&](std::int64_t) { return Clock::now() < end && !(should_stop && should_stop()); };
    if (goes_on(0))
      predictions_[i].*answer = generate::greedy_answer(generator, tokenizer_, asked_[i].sample, limits_, goes_on).text;
  }
}

void SamplePredictions::write() const {
  std::string lines;
  for (const SamplePrediction& prediction : predictions_)
    lines += to_json(prediction).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  io::write_file_atomically(path_, lines);
}

}  // namespace bezel::train
