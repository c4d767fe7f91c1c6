#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bezel/data/dataset.h"
#include "bezel/data/packing.h"
#include "bezel/gemma4/config.h"
#include "bezel/gemma4/parts.h"
#include "bezel/lora/targets.h"
#include "bezel/train/config.h"
#include "bezel/train/data_files.h"
#include "bezel/train/prefetch.h"
#include "bezel/train/prefix_plan.h"
#include "bezel/train/process_group.h"

namespace bezel::train {

/// The samples of a run, and which of them make up each step. Everything that is const may be called from several
/// threads. With skip_bad_samples, samples whose media cannot be decoded are left out.
class BatchPlan {
 public:
  /// Reads tokenizer and data sets of a run; `on_progress` is called with lines read. Throws Error on whatever is wrong
  /// with them.
  BatchPlan(const TrainConfig& config, const gemma4::ModelConfig& model,
            std::function<void(std::size_t done, std::size_t total)> on_progress = {});

  const data::Dataset& train_data() const { return *train_; }
  /// Null where held-out samples are part of train_data().
  const data::Dataset* eval_data() const { return eval_.get(); }
  /// Samples of train_data() that an epoch visits, each as often as it does.
  std::span<const std::size_t> train_samples() const { return train_idx_; }
  std::int64_t num_train() const { return static_cast<std::int64_t>(train_idx_.size()); }
  std::int64_t num_eval() const { return static_cast<std::int64_t>(eval_rows_.samples.size()); }
  /// Whether samples share rows.
  bool packs() const { return packs_; }
  /// What is done about samples that begin alike.
  const PrefixPlan& prefix_plan() const { return prefix_plan_; }
  /// The same of held-out samples that begin alike.
  const PrefixPlan& eval_prefix_plan() const { return eval_plan_.prefixes; }
  /// Of an epoch; as many as samples without packing.
  std::int64_t num_rows() const { return num_rows_; }
  /// Which samples of train_data() share rows in an epoch, in the order of its steps.
  std::shared_ptr<const data::SampleRows> epoch_rows(std::int64_t epoch) const;
  std::int64_t steps_per_epoch() const;
  /// max_steps, or what num_train_epochs makes.
  std::int64_t total_steps() const;
  /// Kinds of media that samples that are trained on have, as far as an encoder or projector that is adapted depends on
  /// them; those of video count as images too, whose encoder reads them.
  const input::PerKind<bool>& has_media() const { return has_media_; }

  /// Micro-batches of a step, counted from 0, that are of `share`. Throws Error when no sample of the step is left;
  /// with a share that is not all of it, there are none then.
  std::vector<data::Batch> step(std::int64_t step, WorkNote& note, Share share = {}) const;
  /// A sample to be answered.
  struct Prompt {
    std::string source;  ///< "file:line"
    data::PromptSample sample;
  };
  /// The first `count` held-out samples with a prompt, or training samples where none are held out.
  std::vector<Prompt> prompts(std::size_t count) const;
  /// Held-out sample `idx`, below num_eval(); nothing when it has no prompt, or is left out.
  std::optional<Prompt> eval_prompt(std::size_t idx) const;
  std::int64_t num_eval_batches() const;
  /// Without tokens when no sample is left.
  data::Batch eval_batch(std::int64_t idx, WorkNote& note) const;
  /// Samples that the reference of training by preference is asked about, each once.
  std::int64_t num_reference_batches() const { return static_cast<std::int64_t>(reference_samples_.size()); }
  /// The number of its first answer; the second has the next one.
  std::int64_t reference_answer(std::int64_t idx) const;
  /// One of these by itself; without tokens when it is left out.
  data::Batch reference_batch(std::int64_t idx, WorkNote& note) const;
  /// Numbers that PreferenceRows::answers may hold.
  std::size_t num_answers() const { return 2 * (train_->size() + (eval_ ? eval_->size() : 0)); }
  /// Sample `idx` of train_data() by itself; without tokens when it is left out.
  data::Batch media_sample(std::int64_t idx, WorkNote& note) const;

  /// Leaves out the sample at `source`, "file:line", from now on, and says why. False without skip_bad_samples.
  bool skip_sample(const std::string& source, const std::string& why) const;
  /// Why samples were left out since the last call, one message each.
  std::vector<std::string> take_left_out() const;

 private:
  data::DatasetOptions dataset_options(const gemma4::ModelConfig& model) const;
  void split_off(double val_set_size);
  void weigh_files();
  void find_media();
  data::SampleRows pack(const data::Dataset& data, std::vector<std::size_t> samples) const;
  std::optional<Prompt> prompt(const data::Dataset& data, std::size_t idx) const;
  bool is_left_out(const std::string& source) const;
  /// The rows of those `samples` that are not left out, which become `used`.
  std::vector<data::Sample> load(const data::Dataset& data, std::span<const std::size_t> samples,
                                 std::vector<std::size_t>& used, bool shares, WorkNote& note) const;
  data::Batch make_batch(const data::Dataset& data, std::span<const std::size_t> samples, bool shares,
                         WorkNote& note) const;
  void plan_sharing();
  void plan_eval_sharing();
  double saved_share(const data::Dataset& data, const data::SampleRows& rows) const;
  MicroBatchLimits shared_limits(const data::Dataset& data, std::span<const std::size_t> samples) const;
  std::vector<data::Batch> shared_batches(std::span<const std::size_t> samples, WorkNote& note, Share share) const;
  bool is_eval(const data::Dataset& data) const { return &data == eval_.get(); }
  void find_partners(const data::Dataset& data, std::vector<std::size_t> samples);
  data::Batch collate_preferences(const data::Dataset& data, std::span<const std::size_t> samples,
                                  std::vector<data::Sample> rows, bool shares) const;

  const TrainConfig config_;
  DataFiles files_;
  std::int64_t pad_id_ = 0;
  std::unique_ptr<data::Dataset> train_;
  std::unique_ptr<data::Dataset> eval_;  // where the held-out samples have a file of their own
  std::vector<std::size_t> train_idx_;   // what an epoch visits, in order; a sample more than once by its file's weight
  std::vector<std::size_t> eval_idx_;    // of eval_, else of train_
  input::PerKind<bool> has_media_;
  bool packs_ = false;
  std::int64_t num_rows_ = 0;
  data::SampleRows eval_rows_;
  PrefixPlan prefix_plan_;
  EvalPlan eval_plan_;
  MicroBatchLimits limits_;               // of those that share prefixes
  std::vector<std::size_t> group_of_;     // of each sample of train_, where epochs keep groups together; else empty
  std::vector<std::size_t> partners_[2];  // of each sample of train_ and eval_, whose answer KTO puts to its prompt
  std::vector<std::pair<bool, std::size_t>> reference_samples_;  // of eval_ or not, and which

  mutable std::mutex mutex_;  // of all below
  mutable std::int64_t ordered_epoch_ = -1;
  mutable std::shared_ptr<const data::SampleRows> rows_;
  mutable std::set<std::string> left_out_;  // sources
  mutable std::vector<std::string> messages_;
};

/// Throws Error (kConfig) for a tower that would be adapted and sees no data: it would stay as it is, silently.
void check_towers_see_data(const std::vector<lora::TowerCount>& counts, const BatchPlan& batches);

}  // namespace bezel::train
