#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bezel/train/batch_plan.h"
#include "bezel/train/prefetch.h"
#include "bezel/train/saturation.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// The batches of a run, read ahead as its config says. Batches are valid while the loader lives.
class DataLoader {
 public:
  /// `on_left_out` is called, on the caller's thread, with the reason why a sample was skipped; may be empty.
  DataLoader(std::shared_ptr<const BatchPlan> batches, const TrainConfig& config,
             std::function<void(const std::string&)> on_left_out, Share share = {});

  /// This process's share of the steps from `first_step` to the last, each asked for once and in turn.
  BatchSource source(std::int64_t first_step);
  /// BatchPlan::reference_batch of `samples`, one a call, in turn.
  std::function<data::Batch()> reference_batches(std::vector<std::int64_t> samples);
  /// The samples of the training data that have media, from the first on. Decodes only what is asked for.
  NextMediaSample media_samples();

 private:
  using MakeOne = data::Batch (BatchPlan::*)(std::int64_t, WorkNote&) const;

  std::function<data::Batch(std::int64_t)> one_by_one(MakeOne make, std::int64_t size);
  Prefetch::Batches next(Prefetch& feed);

  std::shared_ptr<const BatchPlan> batches_;
  PrefetchOptions options_;
  Share share_;
  std::function<void(const std::string&)> on_left_out_;
  std::optional<Prefetch> steps_, singles_;
};

}  // namespace bezel::train
