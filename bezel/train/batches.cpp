#include "bezel/train/batches.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bezel/error.h"

namespace bezel::train {
namespace {

// Keeps the split apart from the orders of the epochs, which count from 0.
constexpr std::uint64_t kSplitEpoch = ~std::uint64_t{0};

std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

data::ChatFormat chat_format(const TrainConfig& config, const gemma4::ModelConfig& model) {
  if (config.chat_format == "edge") return data::ChatFormat::kEdge;
  if (config.chat_format == "large") return data::ChatFormat::kLarge;
  return data::detect_chat_format(model.text.hidden_size_per_layer_input > 0);
}

}  // namespace

RunBatches::RunBatches(const TrainConfig& config, const gemma4::ModelConfig& model)
    : config_(config), files_(find_data_files(config)), pad_id_(model.text.pad_token_id) {
  const auto tokenizer = std::make_shared<const data::Tokenizer>(data::Tokenizer::of_model(config.base_model));
  data::DatasetOptions options = dataset_options(model);
  train_ = std::make_unique<data::Dataset>(options, tokenizer);
  train_idx_.resize(train_->size());
  std::iota(train_idx_.begin(), train_idx_.end(), std::size_t{0});
  if (!files_.eval.empty()) {
    options.file = files_.eval;
    if (config.media_root.empty()) options.media_root.clear();
    eval_ = std::make_unique<data::Dataset>(options, tokenizer);
  } else if (config.val_set_size > 0) {
    split_off(config.val_set_size);
  }
  find_media();
}

data::DatasetOptions RunBatches::dataset_options(const gemma4::ModelConfig& model) const {
  data::DatasetOptions options;
  options.file = files_.train;
  options.media_root = files_.media_root;
  options.max_seq_length = static_cast<std::size_t>(config_.max_seq_length);
  options.skip_bad_samples = config_.skip_bad_samples;
  options.allow_images = model.vision.has_value();
  options.allow_audio = model.audio.has_value();
  options.sample.train_on_inputs = config_.train_on_inputs;
  options.sample.chat.format = chat_format(config_, model);
  options.sample.chat.mask_history = config_.mask_history;
  if (model.vision || model.audio) options.media = data::read_processor_config(config_.base_model);
  if (config_.max_soft_tokens) options.media.image.max_soft_tokens = *config_.max_soft_tokens;
  options.ids = {model.image_token_id, model.video_token_id, model.audio_token_id};
  return options;
}

void RunBatches::split_off(double val_set_size) {
  const auto size = static_cast<double>(train_->size());
  const auto held_out = static_cast<std::size_t>(val_set_size < 1 ? std::ceil(size * val_set_size) : val_set_size);
  if (held_out >= train_->size())
    throw Error(ErrorKind::kConfig, "val_set_size ", val_set_size, " leaves nothing to train on: ", files_.train,
                " has ", train_->size(), " samples");
  const std::vector<std::size_t> order =
      data::epoch_order(train_->size(), static_cast<std::uint64_t>(config_.seed), kSplitEpoch);
  const auto cut = order.begin() + static_cast<std::ptrdiff_t>(held_out);
  eval_idx_.assign(order.begin(), cut);
  train_idx_.assign(cut, order.end());
  std::ranges::sort(train_idx_);
}

void RunBatches::find_media() {
  const auto adapts = [&](lora::Tower tower) {
    return !config_.init_adapter.empty() || std::ranges::find(config_.lora.towers, tower) != config_.lora.towers.end();
  };
  // Reading every line once more is only worth it where the answer matters.
  const bool projectors = adapts(lora::Tower::kProjectors);
  const bool want_images = train_->options().allow_images && (projectors || adapts(lora::Tower::kVision));
  const bool want_recordings = train_->options().allow_audio && (projectors || adapts(lora::Tower::kAudio));
  for (const std::size_t idx : train_idx_) {
    if ((has_images_ || !want_images) && (has_recordings_ || !want_recordings)) return;
    const data::SampleText text = train_->load_text(idx);
    has_images_ = has_images_ || !text.images.empty();
    has_recordings_ = has_recordings_ || !text.audios.empty();
  }
}

std::int64_t RunBatches::steps_per_epoch() const {
  return divide_up(divide_up(num_train(), config_.micro_batch_size), config_.gradient_accumulation_steps);
}

std::int64_t RunBatches::total_steps() const {
  if (config_.max_steps) return *config_.max_steps;
  const double steps = std::ceil(config_.num_train_epochs * static_cast<double>(steps_per_epoch()));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(steps));
}

std::vector<data::Sample> RunBatches::load(const std::vector<std::size_t>& order, std::int64_t begin,
                                           std::int64_t count) const {
  std::vector<data::Sample> samples;
  const std::int64_t end = std::min(begin + count, static_cast<std::int64_t>(order.size()));
  for (std::int64_t i = begin; i < end; ++i) {
    try {
      samples.push_back(train_->load(order[static_cast<std::size_t>(i)]));
    } catch (const Error& error) {
      if (!config_.skip_bad_samples || error.kind() != ErrorKind::kData) throw;
    }
  }
  return samples;
}

std::vector<data::Batch> RunBatches::step(std::int64_t step) {
  const std::int64_t epoch = step / steps_per_epoch();
  if (epoch != ordered_epoch_) {
    order_ = train_idx_;
    if (config_.shuffle) {
      const auto places = data::epoch_order(train_idx_.size(), static_cast<std::uint64_t>(config_.seed),
                                            static_cast<std::uint64_t>(epoch));
      std::ranges::transform(places, order_.begin(), [&](std::size_t place) { return train_idx_[place]; });
    }
    ordered_epoch_ = epoch;
  }
  std::vector<data::Batch> batches;
  const std::int64_t first = step % steps_per_epoch() * config_.gradient_accumulation_steps;
  for (std::int64_t i = first; i < first + config_.gradient_accumulation_steps; ++i) {
    const auto samples = load(order_, i * config_.micro_batch_size, config_.micro_batch_size);
    if (!samples.empty()) batches.push_back(data::collate(samples, pad_id_));
  }
  if (batches.empty())
    throw Error(files_.train, ": no sample of step ", step + 1, " can be decoded; the first is ",
                train_->source(order_[static_cast<std::size_t>(first * config_.micro_batch_size)]));
  return batches;
}

std::int64_t RunBatches::num_eval_batches() const { return divide_up(num_eval(), config_.micro_batch_size); }

data::Batch RunBatches::eval_batch(std::int64_t idx) const {
  std::vector<data::Sample> samples;
  const std::int64_t begin = idx * config_.micro_batch_size;
  for (std::int64_t i = begin; i < std::min(begin + config_.micro_batch_size, num_eval()); ++i) {
    const auto place = static_cast<std::size_t>(i);
    samples.push_back(eval_ ? eval_->load(place) : train_->load(eval_idx_[place]));
  }
  return data::collate(samples, pad_id_);
}

}  // namespace bezel::train
