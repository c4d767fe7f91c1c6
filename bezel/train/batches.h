#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"
#include "bezel/gemma4/config.h"
#include "bezel/train/config.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// The samples of a run, and which of them make up each step.
class RunBatches {
 public:
  /// Reads tokenizer and data sets of a run; `on_progress` is told of lines read. Throws Error on whatever is wrong
  /// with them.
  RunBatches(const TrainConfig& config, const gemma4::ModelConfig& model,
             std::function<void(std::size_t done, std::size_t total)> on_progress = {});

  const data::Dataset& train_data() const { return *train_; }
  /// Null where held-out samples are part of train_data().
  const data::Dataset* eval_data() const { return eval_.get(); }
  std::int64_t num_train() const { return static_cast<std::int64_t>(train_idx_.size()); }
  std::int64_t num_eval() const { return static_cast<std::int64_t>(eval_ ? eval_->size() : eval_idx_.size()); }
  std::int64_t steps_per_epoch() const;
  /// max_steps, or what num_train_epochs makes.
  std::int64_t total_steps() const;
  /// Whether any sample that is trained on has a picture, or a recording.
  bool has_images() const { return has_images_; }
  bool has_recordings() const { return has_recordings_; }

  /// Micro-batches of a step, counted from 0. With skip_bad_samples, samples whose media cannot be decoded are left
  /// out.
  std::vector<data::Batch> step(std::int64_t step);
  /// A sample to be answered.
  struct Prompt {
    std::string source;  ///< "file:line"
    data::PromptSample sample;
  };
  /// The first `count` held-out samples that have a prompt, or without any of those that are trained on. Samples whose
  /// media cannot be decoded are treated as by step().
  std::vector<Prompt> prompts(std::size_t count) const;
  std::int64_t num_eval_batches() const;
  data::Batch eval_batch(std::int64_t idx) const;

 private:
  data::DatasetOptions dataset_options(const gemma4::ModelConfig& model) const;
  void split_off(double val_set_size);
  void find_media();
  std::vector<data::Sample> load(const std::vector<std::size_t>& order, std::int64_t begin, std::int64_t count) const;

  TrainConfig config_;
  DataFiles files_;
  std::int64_t pad_id_ = 0;
  std::unique_ptr<data::Dataset> train_;
  std::unique_ptr<data::Dataset> eval_;  // where the held-out samples have a file of their own
  std::vector<std::size_t> train_idx_;
  std::vector<std::size_t> eval_idx_;  // else of train_
  bool has_images_ = false;
  bool has_recordings_ = false;
  std::int64_t ordered_epoch_ = -1;
  std::vector<std::size_t> order_;
};

/// Throws Error (kConfig) for a tower that would be adapted and sees no data: it would stay as it is, silently.
void check_towers_see_data(const std::vector<lora::TowerCount>& counts, const RunBatches& batches);

}  // namespace bezel::train
