#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/config.h"
#include "bezel/train/data_loader.h"
#include "bezel/train/fingerprint.h"
#include "bezel/train/reference_logps.h"

namespace bezel::train {

/// The file of a run's reference, in its output folder.
std::string reference_path(const TrainConfig& config);

/// What the reference's answers depend on: data, base, the settings that change them, and init_adapter. An adapter that
/// is not there any more is kLostAdapter.
ReferenceFacts reference_facts(const TrainConfig& config, const RunFacts& facts, const BatchPlan& batches);

/// Samples of BatchPlan::reference_batch whose answers `reference` lacks.
std::vector<std::int64_t> missing_samples(const BatchPlan& batches, const ReferenceLogps& reference);

struct ReferencePass {
  const std::vector<std::int64_t>& samples;                              ///< as missing_samples gives them
  std::function<bool()> should_stop;                                     ///< may be empty
  std::function<void(std::size_t done, std::size_t total)> on_progress;  ///< may be empty
};

/// Asks `model` as it is, in evaluation mode, for the answers of `pass`, saving `reference` now and then and at the
/// end. False when it was stopped. Samples whose media cannot be decoded are left out where the config says so.
bool compute_reference(gemma4::Model& model, torch::Device device, DataLoader& feed, const ReferencePass& pass,
                       ReferenceLogps& reference);

}  // namespace bezel::train
