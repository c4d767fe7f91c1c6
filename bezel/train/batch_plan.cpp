#include "bezel/train/batch_plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "bezel/data/checkpoint_template.h"
#include "bezel/data/preference_batch.h"
#include "bezel/data/shared_prefix.h"
#include "bezel/error.h"
#include "bezel/input/sample_key.h"
#include "bezel/io/divide_up.h"
#include "bezel/train/run_check.h"

namespace bezel::train {
namespace {

// Keeps the split apart from the orders of the epochs, which count from 0.
constexpr std::uint64_t kSplitEpoch = ~std::uint64_t{0};
constexpr std::uint64_t kWeightEpoch = kSplitEpoch - 1;

data::ChatFormat chat_format(const TrainConfig& config, const gemma4::ModelConfig& model) {
  if (config.chat_format == "edge") return data::ChatFormat::kEdge;
  if (config.chat_format == "large") return data::ChatFormat::kLarge;
  if (config.chat_format == "gemma3") return data::ChatFormat::kGemma3;
  return data::detect_chat_format(model);
}

std::vector<std::size_t> all_of(const data::Dataset& data) {
  std::vector<std::size_t> idx(data.size());
  std::iota(idx.begin(), idx.end(), std::size_t{0});
  return idx;
}

bool has_any_media(const data::Dataset& data) {
  for (std::size_t i = 0; i < data.size(); ++i)
    if (data.sample_size(i).has_media()) return true;
  return false;
}

}  // namespace

BatchPlan::BatchPlan(const TrainConfig& config, const gemma4::ModelConfig& model,
                     std::function<void(std::size_t, std::size_t)> on_progress)
    : config_(config), files_(find_data_files(config)), pad_id_(model.text.pad_token_id) {
  const auto tokenizer =
      std::make_shared<const data::Tokenizer>(data::Tokenizer::of_model(config.base_model, config.new_tokens));
  data::DatasetOptions options = dataset_options(model);
  options.on_progress = std::move(on_progress);
  train_ = std::make_unique<data::Dataset>(options, tokenizer);
  train_idx_ = all_of(*train_);
  if (!files_.eval.empty()) {
    options.files = files_.eval;
    eval_ = std::make_unique<data::Dataset>(options, tokenizer);
    eval_idx_ = all_of(*eval_);
  } else if (config.val_set_size > 0) {
    split_off(config.val_set_size);
  }
  if (config_.preference.uses_preferences()) {
    find_partners(*train_, train_idx_);
    find_partners(eval_ ? *eval_ : *train_, eval_idx_);
  }
  weigh_files();
  find_media();
  packs_ = !config_.preference.uses_preferences() &&
           config_.packing.value_or(!has_any_media(*train_) && !(eval_ && has_any_media(*eval_)));
  num_rows_ = static_cast<std::int64_t>(epoch_rows(0)->size());
  // Rows of many samples would leave a small data set with hardly an update.
  if (packs_ && !config_.packing && !config_.max_steps && total_steps() < kFewUpdates) {
    packs_ = false;
    ordered_epoch_ = -1;
    num_rows_ = static_cast<std::int64_t>(epoch_rows(0)->size());
  }
  eval_rows_ = pack(eval_ ? *eval_ : *train_, eval_idx_);
  plan_sharing();
}

data::DatasetOptions BatchPlan::dataset_options(const gemma4::ModelConfig& model) const {
  data::DatasetOptions options;
  options.files = files_.train;
  options.max_seq_length = static_cast<std::size_t>(config_.max_seq_length);
  options.skip_bad_samples = config_.skip_bad_samples;
  options.hashes_prefixes = config_.share_prefixes.value_or(true);
  if (config_.preference.uses_preferences())
    options.kind = config_.preference.has_labels() ? data::LineKind::kLabelled : data::LineKind::kPair;
  options.learns_prompt = config_.preference.objective == ObjectiveKind::kOrpo;
  options.allowed = model.media();
  options.sample.train_on_inputs = config_.train_on_inputs;
  options.sample.chat.format = chat_format(config_, model);
  if (config_.chat_format == "auto")
    options.sample.chat.checkpoint_template = data::CheckpointTemplate::load(config_.base_model, config_.chat_template);
  options.sample.chat.mask_history = config_.mask_history;
  if (model.media() != input::PerKind<bool>{}) options.media = data::media_settings(config_.base_model, model);
  if (config_.max_soft_tokens) options.media.image.max_soft_tokens = *config_.max_soft_tokens;
  data::apply(config_.video, options.media.video);
  options.ids = model.placeholder_ids;
  options.missing_row = [model](std::int64_t id) { return model.missing_row(id); };
  return options;
}

// As TRL pairs them: the answers of a micro-batch of neighbors, each put to the prompt behind its own. One that would
// be left alone takes the answer before it.
void BatchPlan::find_partners(const data::Dataset& data, std::vector<std::size_t> samples) {
  std::vector<std::size_t>& partners = partners_[is_eval(data) ? 1 : 0];
  partners.resize(data.size());
  const auto group = static_cast<std::size_t>(config_.micro_batch_size);
  for (std::size_t begin = 0; begin < samples.size(); begin += group) {
    const std::size_t end = std::min(begin + group, samples.size());
    for (std::size_t i = begin; i < end; ++i)
      partners[samples[i]] = samples[i > begin ? i - 1 : end - begin > 1 || begin == 0 ? end - 1 : begin - 1];
  }
  for (const std::size_t idx : samples) reference_samples_.emplace_back(is_eval(data), idx);
}

data::Batch BatchPlan::collate_preferences(const data::Dataset& data, std::span<const std::size_t> samples,
                                           std::vector<data::Sample> rows, bool shares) const {
  const bool is_labelled = config_.preference.has_labels();
  const std::size_t first = is_eval(data) ? train_->size() : 0;
  std::vector<std::int64_t> answers, mismatched_answers;
  std::vector<data::Sample> mismatched;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    answers.push_back(static_cast<std::int64_t>(2 * (first + samples[i])));
    mismatched_answers.push_back(answers.back() + 1);
    if (!is_labelled)
      answers.push_back(mismatched_answers.back());
    else
      mismatched.push_back(data::mismatched(rows[i], data.load_tokens(partners_[is_eval(data) ? 1 : 0][samples[i]]),
                                            data.options().max_seq_length));
    if (is_labelled) mismatched.back().key = input::sample_key(samples[i], 1);
  }
  data::Batch batch = data::collate_answers(rows, answers, pad_id_, shares);
  if (!is_labelled) return batch;
  auto preferences = std::make_shared<data::PreferenceRows>(*batch.preferences);
  preferences->mismatched =
      std::make_shared<data::Batch>(data::collate_answers(mismatched, mismatched_answers, pad_id_, shares));
  batch.preferences = std::move(preferences);
  return batch;
}

void BatchPlan::split_off(double val_set_size) {
  const auto size = static_cast<double>(train_->size());
  const auto held_out = static_cast<std::size_t>(val_set_size < 1 ? std::ceil(size * val_set_size) : val_set_size);
  if (held_out >= train_->size())
    throw Error(ErrorKind::kConfig, "val_set_size ", val_set_size, " leaves nothing to train on: ", train_->name(),
                " has ", train_->size(), " samples");
  const std::vector<std::size_t> order =
      data::epoch_order(train_->size(), static_cast<std::uint64_t>(config_.seed), kSplitEpoch);
  const auto cut = order.begin() + static_cast<std::ptrdiff_t>(held_out);
  eval_idx_.assign(order.begin(), cut);
  train_idx_.assign(cut, order.end());
  std::ranges::sort(train_idx_);
}

// Held-out samples are apart by now, so that no held-out sample returns.
void BatchPlan::weigh_files() {
  const auto weight_of = [&](std::size_t idx) { return train_->files().file(train_->file_idx(idx)).weight; };
  if (std::ranges::all_of(train_idx_, [&](std::size_t idx) { return weight_of(idx) == 1.0; })) return;
  std::vector<std::size_t> visits;
  std::vector<double> due(train_->files().num_files(), 0.0);
  for (const std::size_t idx :
       data::epoch_order(train_->size(), static_cast<std::uint64_t>(config_.seed), kWeightEpoch)) {
    if (!std::ranges::binary_search(train_idx_, idx)) continue;
    // What a sample leaves of a whole visit goes to the next one of its file.
    double& share = due[train_->file_idx(idx)];
    for (share += weight_of(idx); share >= 1.0 - 1e-9; share -= 1.0) visits.push_back(idx);
  }
  if (visits.empty()) throw Error(ErrorKind::kConfig, "datasets: the weights leave no sample of ", train_->name());
  std::ranges::sort(visits);
  train_idx_ = std::move(visits);
}

void BatchPlan::find_media() {
  const auto adapts = [&](lora::Tower tower) {
    return !config_.init_adapter.empty() || std::ranges::find(config_.lora.towers, tower) != config_.lora.towers.end();
  };
  for (const gemma4::Part& part : gemma4::known_parts())
    for (const input::MediaKind kind : input::kMediaKinds) {
      if (!part.media || !adapts(part.tower) || input::encoder_kind(kind) != *part.media || has_media_[kind]) continue;
      has_media_[kind] = std::ranges::any_of(train_idx_, [&](std::size_t idx) { return train_->has_media(idx, kind); });
      has_media_[*part.media] = has_media_[*part.media] || has_media_[kind];
    }
}

data::SampleRows BatchPlan::pack(const data::Dataset& data, std::vector<std::size_t> samples) const {
  if (!packs_) return data::one_a_row(std::move(samples));
  std::vector<std::size_t> lengths(data.size());
  for (std::size_t i = 0; i < data.size(); ++i) lengths[i] = data.num_tokens(i);
  return data::pack_rows(samples, lengths, static_cast<std::size_t>(config_.max_seq_length));
}

std::shared_ptr<const data::SampleRows> BatchPlan::epoch_rows(std::int64_t epoch) const {
  const std::lock_guard lock(mutex_);
  if (epoch == ordered_epoch_) return rows_;
  const auto shuffled = [&](std::size_t size, std::uint64_t seed) {
    return data::epoch_order(size, seed, static_cast<std::uint64_t>(epoch));
  };
  const auto seed = static_cast<std::uint64_t>(config_.seed);
  std::vector<std::size_t> samples = train_idx_;
  if (config_.shuffle)
    std::ranges::transform(shuffled(samples.size(), seed), samples.begin(),
                           [&](std::size_t i) { return train_idx_[i]; });
  if (!group_of_.empty()) {
    const std::int64_t half_step = config_.micro_batch_size * micro_batches(config_) / 2;
    samples = gather_groups(samples, group_of_, static_cast<std::size_t>(std::max(config_.micro_batch_size, half_step)),
                            ~seed, static_cast<std::uint64_t>(epoch));
  }
  data::SampleRows rows = pack(*train_, std::move(samples));
  // Rows of many samples would come early, since one of these is among the first.
  if (config_.shuffle && packs_) rows = rows.in_order(shuffled(rows.size(), ~seed));
  ordered_epoch_ = epoch;
  rows_ = std::make_shared<const data::SampleRows>(std::move(rows));
  return rows_;
}

std::int64_t BatchPlan::steps_per_epoch() const {
  return io::divide_up(io::divide_up(num_rows_, config_.micro_batch_size), micro_batches(config_));
}

std::int64_t BatchPlan::total_steps() const {
  if (config_.max_steps) return *config_.max_steps;
  const double steps = std::ceil(config_.num_train_epochs * static_cast<double>(steps_per_epoch()));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(steps));
}

std::vector<data::Sample> BatchPlan::load(const data::Dataset& data, std::span<const std::size_t> samples,
                                          std::vector<std::size_t>& used, bool shares, WorkNote& note) const {
  std::vector<data::Sample> loaded;
  for (const std::size_t idx : samples) {
    const std::string source = data.source(idx);
    if (is_left_out(source)) continue;
    note.begin(source);
    try {
      const std::size_t first = loaded.size();
      std::ranges::move(data.load_rows(idx), std::back_inserter(loaded));
      for (std::size_t row = first; row < loaded.size(); ++row) loaded[row].key = input::sample_key(idx, row - first);
      used.push_back(idx);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData || !skip_sample(source, error.what())) throw;
    }
  }
  if (shares) data::join_equal_media(loaded);
  return loaded;
}

data::Batch BatchPlan::make_batch(const data::Dataset& data, std::span<const std::size_t> samples, bool shares,
                                  WorkNote& note) const {
  std::vector<std::size_t> used;
  std::vector<data::Sample> loaded = load(data, samples, used, shares, note);
  if (loaded.empty()) return {};
  if (config_.preference.uses_preferences()) return collate_preferences(data, used, std::move(loaded), shares);
  if (shares) return data::collate_shared(loaded);
  return packs_ ? data::collate_packed(loaded) : data::collate(loaded, pad_id_);
}

std::vector<data::Batch> BatchPlan::step(std::int64_t step, WorkNote& note, Share share) const {
  const auto rows = epoch_rows(step / steps_per_epoch());
  const auto batch_rows = static_cast<std::size_t>(config_.micro_batch_size);
  const auto step_rows = batch_rows * static_cast<std::size_t>(micro_batches(config_));
  const std::size_t first = static_cast<std::size_t>(step % steps_per_epoch()) * step_rows;
  std::vector<data::Batch> batches;
  if (prefix_plan_.shares && !config_.preference.uses_preferences()) {
    batches = shared_batches(rows->rows(first, first + step_rows), note, share);
  } else {
    const std::size_t stride = batch_rows * static_cast<std::size_t>(share.size);
    for (std::size_t row = first + batch_rows * static_cast<std::size_t>(share.rank);
         row < std::min(first + step_rows, rows->size()); row += stride) {
      data::Batch batch = make_batch(*train_, rows->rows(row, row + batch_rows), prefix_plan_.shares, note);
      if (batch.num_tokens > 0) batches.push_back(std::move(batch));
    }
  }
  if (batches.empty() && share.size == 1)
    throw Error(train_->name(), ": no sample of step ", step + 1, " can be decoded; the first is ",
                train_->source(rows->rows(first, first + 1)[0]));
  return batches;
}

std::vector<BatchPlan::Prompt> BatchPlan::prompts(std::size_t count) const {
  const data::Dataset& data = eval_ ? *eval_ : *train_;
  std::vector<Prompt> prompts;
  for (const std::size_t idx : eval_idx_.empty() ? train_idx_ : eval_idx_) {
    if (prompts.size() == count) break;
    if (auto asked = prompt(data, idx)) prompts.push_back(std::move(*asked));
  }
  return prompts;
}

std::optional<BatchPlan::Prompt> BatchPlan::eval_prompt(std::size_t idx) const {
  return prompt(eval_ ? *eval_ : *train_, eval_idx_.at(idx));
}

std::optional<BatchPlan::Prompt> BatchPlan::prompt(const data::Dataset& data, std::size_t idx) const {
  std::string source = data.source(idx);
  try {
    if (auto sample = data.load_prompt(idx)) return Prompt{std::move(source), std::move(*sample)};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData || !skip_sample(source, error.what())) throw;
  }
  return std::nullopt;
}

std::int64_t BatchPlan::num_eval_batches() const {
  if (!eval_plan_.batches.empty()) return static_cast<std::int64_t>(eval_plan_.batches.size());
  return io::divide_up(static_cast<std::int64_t>(eval_rows_.size()), config_.micro_batch_size);
}

data::Batch BatchPlan::eval_batch(std::int64_t idx, WorkNote& note) const {
  const auto rows = static_cast<std::size_t>(config_.micro_batch_size), first = static_cast<std::size_t>(idx) * rows;
  const std::span<const std::size_t> samples = eval_plan_.batches.empty()
                                                   ? eval_rows_.rows(first, first + rows)
                                                   : eval_plan_.batches.at(static_cast<std::size_t>(idx));
  return make_batch(eval_ ? *eval_ : *train_, samples, eval_plan_.prefixes.shares, note);
}

std::int64_t BatchPlan::reference_answer(std::int64_t idx) const {
  const auto& [of_eval, sample] = reference_samples_[static_cast<std::size_t>(idx)];
  return static_cast<std::int64_t>(2 * ((of_eval ? train_->size() : 0) + sample));
}

data::Batch BatchPlan::reference_batch(std::int64_t idx, WorkNote& note) const {
  const auto& [of_eval, sample] = reference_samples_[static_cast<std::size_t>(idx)];
  return make_batch(of_eval ? *eval_ : *train_, {&sample, 1}, prefix_plan_.shares, note);
}

data::Batch BatchPlan::media_sample(std::int64_t idx, WorkNote& note) const {
  const auto place = static_cast<std::size_t>(idx);
  return make_batch(*train_, {&place, 1}, prefix_plan_.shares, note);
}

bool BatchPlan::is_left_out(const std::string& source) const {
  const std::lock_guard lock(mutex_);
  return left_out_.contains(source);
}

bool BatchPlan::skip_sample(const std::string& source, const std::string& why) const {
  if (!config_.skip_bad_samples) return false;
  const std::lock_guard lock(mutex_);
  if (left_out_.insert(source).second) messages_.push_back(why);
  return true;
}

std::vector<std::string> BatchPlan::take_left_out() const {
  const std::lock_guard lock(mutex_);
  return std::exchange(messages_, {});
}

void check_towers_see_data(const std::vector<lora::TowerCount>& counts, const BatchPlan& batches) {
  for (const gemma4::Part& part : gemma4::known_parts())
    if (part.kind == gemma4::PartKind::kEncoder && !batches.has_media()[*part.media] &&
        std::ranges::find(counts, part.tower, &lora::TowerCount::tower) != counts.end())
      throw Error(ErrorKind::kConfig, "lora_towers has ", lora::tower_name(part.tower),
                  ", but no training sample has a ", input::kMediaWords[*part.media].item);
}

}  // namespace bezel::train
