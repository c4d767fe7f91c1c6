#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/generate/answer.h"
#include "bezel/io/json.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// What a model answers to a sample before and after training; "" where it was not asked.
struct SamplePrediction {
  std::string source;    ///< "valid.jsonl:3"
  std::string prompt;    ///< one placeholder for each image and audio clip
  std::string expected;  ///< the answer that the sample holds
  std::string before;
  std::string after;
};

io::Json to_json(const SamplePrediction& prediction);

/// A few samples that are answered greedily before the first step and after the last (config key sample_predictions):
/// held-out ones, or training samples where none are held out. They are in predictions.jsonl of the output
/// folder.
class SamplePredictions {
 public:
  /// Decodes the samples' media. Samples without a prompt are skipped, and with skip_bad_samples those whose media
  /// cannot be decoded. Throws Error for others. `batches` must outlive this.
  SamplePredictions(const TrainConfig& config, const BatchPlan& batches);

  bool empty() const { return asked_.empty(); }
  const std::vector<SamplePrediction>& all() const { return predictions_; }

  /// Reads the answers before training from the file, for a resumed run; for samples that are not in it, they stay
  /// unknown. Throws Error when the file is damaged.
  void read_before();
  /// Throws Error (kIo).
  void write() const;
  /// Asks the model for one of the two answers. That takes a minute at most: what is not said by then, or before
  /// `should_stop`, is left out. Weights stay mapped, and `observer` is called after each phase: answering takes no
  /// more memory than training.
  void ask(gemma4::Model& model, std::string SamplePrediction::*answer, const std::function<bool()>& should_stop,
           gemma4::PhaseObserver observer);

 private:
  std::string path_;
  const data::Tokenizer& tokenizer_;
  generate::GenerateOptions limits_;
  std::vector<data::PromptSample> asked_;
  std::vector<SamplePrediction> predictions_;
};

}  // namespace bezel::train
