#include "bezel/train/data_loader.h"

#include <algorithm>
#include <utility>

namespace bezel::train {

DataLoader::DataLoader(std::shared_ptr<const BatchPlan> batches, const TrainConfig& config,
                       std::function<void(const std::string&)> on_left_out, Share share)
    : batches_(std::move(batches)),
      options_{
          .num_workers = config.dataloader_num_workers,
          .timeout_s = config.data_timeout_s,
          .skip_sample = [batches = batches_](const std::string& source,
                                              const std::string& why) { return batches->skip_sample(source, why); }},
      share_(share),
      on_left_out_(std::move(on_left_out)) {}

BatchSource DataLoader::source(std::int64_t first_step) {
  // The workers share in the batches: one that hangs may outlive the run.
  steps_.emplace([batches = batches_, share = share_](std::int64_t step,
                                                      WorkNote& note) { return batches->step(step, note, share); },
                 first_step, batches_->total_steps(), options_);
  BatchSource source;
  source.train = [this](std::int64_t) { return next(*steps_); };
  source.evaluates = batches_->num_eval_batches() > 0;
  source.num_eval_batches = share_.of(batches_->num_eval_batches());
  source.eval = one_by_one(&BatchPlan::eval_batch, source.num_eval_batches);
  return source;
}

std::function<data::Batch()> DataLoader::reference_batches(std::vector<std::int64_t> samples) {
  const auto count = static_cast<std::int64_t>(samples.size());
  singles_.emplace(
      [batches = batches_, samples = std::move(samples)](std::int64_t i, WorkNote& note) {
        return Prefetch::Batches{batches->reference_batch(samples[static_cast<std::size_t>(i)], note)};
      },
      0, count, options_);
  return [this] { return std::move(next(*singles_).front()); };
}

NextMediaSample DataLoader::media_samples() {
  return [this, idx = std::size_t{0}](const input::PerKind<bool>& wanted) mutable -> std::optional<data::Batch> {
    const data::Dataset& data = batches_->train_data();
    const auto is_wanted = [&](std::size_t at) {
      return std::ranges::any_of(input::kMediaKinds,
                                 [&](input::MediaKind kind) { return wanted[kind] && data.has_media(at, kind); });
    };
    while (idx < data.size() && !is_wanted(idx)) ++idx;
    if (idx == data.size()) return std::nullopt;
    singles_.emplace([batches = batches_, at = static_cast<std::int64_t>(idx++)](
                         std::int64_t, WorkNote& note) { return Prefetch::Batches{batches->media_sample(at, note)}; },
                     0, 1, options_);
    data::Batch batch = std::move(next(*singles_).front());
    singles_.reset();
    return batch;
  };
}

std::function<data::Batch(std::int64_t)> DataLoader::one_by_one(MakeOne make, std::int64_t size) {
  return [this, make, size](std::int64_t idx) {
    if (idx == 0)
      singles_.emplace(
          [batches = batches_, make, share = share_](std::int64_t i, WorkNote& note) {
            return Prefetch::Batches{((*batches).*make)(share.rank + i * share.size, note)};
          },
          0, size, options_);
    data::Batch batch = std::move(next(*singles_).front());
    if (idx + 1 == size) singles_.reset();
    return batch;
  };
}

Prefetch::Batches DataLoader::next(Prefetch& feed) {
  Prefetch::Batches batches = feed.next();
  for (const std::string& message : batches_->take_left_out())
    if (on_left_out_) on_left_out_(message);
  return batches;
}

}  // namespace bezel::train
