#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// Runs of fewer updates get a warning, no warm-up by default and no automatic packing.
constexpr std::int64_t kFewUpdates = 10;

/// The learning rate of each update. Warm-up: warmup_steps, else warmup_ratio of the updates, rounded up and at most
/// all but the last one; with neither given, 3 % of the updates from kFewUpdates on and 0 below.
Schedule make_schedule(const TrainConfig& config, std::int64_t total_steps);

/// How the config has its adapter moved.
OptimizerSettings make_optimizer_settings(const TrainConfig& config);

/// Throws Error (kConfig) when no update has a learning rate above zero, or when warmup_steps is as long as the run or
/// longer. Returns warnings: fewer than kFewUpdates updates, and a warm-up that make_schedule shortened.
std::vector<std::string> check_learns(const TrainConfig& config, std::int64_t total_steps);

/// What a run over a model with experts says where it adapts the decoder and leaves them frozen; "" for any other.
std::string frozen_experts_note(const gemma4::ModelConfig& model, const TrainConfig& config);

}  // namespace bezel::train
