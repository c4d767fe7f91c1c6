#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"
#include "bezel/lora/targets.h"
#include "bezel/train/config.h"
#include "bezel/train/expert_load.h"
#include "bezel/train/predictions.h"
#include "bezel/train/process_group.h"
#include "bezel/train/saturation.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// What a run is going to do, known before its first step.
struct RunPlan {
  TrainConfig config;  ///< resolved: with init_adapter's LoRA keys
  std::vector<lora::TowerCount> towers;
  data::DatasetReport data;
  std::int64_t num_samples = 0;
  std::int64_t num_eval_samples = 0;
  std::int64_t num_packed_rows = 0;  ///< that the samples of an epoch share; 0 without packing
  std::int64_t steps_per_epoch = 0;
  std::int64_t total_steps = 0;
  std::int64_t steps_done = 0;  ///< before this session, from its checkpoint
  std::string device;
  std::int64_t ranks = 1;             ///< processes
  std::vector<std::string> notes;     ///< settings of config or checkpoint that the run changes
  std::vector<std::string> warnings;  ///< what may be wrong: damaged checkpoints that were skipped, few updates …
};

struct RunEvents {
  std::function<void(const RunPlan&)> on_start;
  std::function<void(const StepReport&)> on_step;
  std::function<void(const EvalReport&)> on_eval;
  std::function<void(const std::string& folder)> on_save;
  /// A checkpoint could not be written; it is tried again at the next interval.
  std::function<void(const std::string& why)> on_save_failed;
  /// Clip saturation before the first step and after the last; measured only when this is set.
  std::function<void(std::int64_t step, const std::vector<LayerSaturation>&)> on_saturation = {};
  /// Shares of the tokens that the experts of a mixture got since the last call: after the first steps that are logged,
  /// before each checkpoint, and after the last step.
  std::function<void(std::int64_t step, const std::vector<LayerLoad>&)> on_expert_load = {};
  /// What the model answers to sample_predictions' samples, before the first step and after the last.
  std::function<void(const std::vector<SamplePrediction>&)> on_predictions = {};
  /// A sample could not be decoded, or not in time, and takes no part from now on (skip_bad_samples).
  std::function<void(const std::string& why)> on_left_out = {};
  std::function<bool()> should_stop;  ///< in a run of several processes asked on another thread too
  /// Of training by preference: so many samples have been asked of the reference, before anything else.
  std::function<void(std::size_t done, std::size_t total)> on_reference = {};
};

struct RunResult {
  std::string adapter;  ///< the output folder; "" when the run was stopped before its first step
  TrainSummary summary;
  std::vector<std::string> problems;  ///< what is missing beside the adapter, and why
};

/// Fine-tunes as `config` says, from checking the output folder to writing the adapter, or resumes from a checkpoint.
/// Everything that can be checked without the weights is checked before they are loaded. A checkpoint that cannot be
/// written stops nothing but the last one. Throws Error.
/// With several processes it is collective, with one config: rank 0 alone writes files and calls events, but for
/// should_stop, which is asked of all, and on_left_out, which every process calls for its own samples. An Error on one
/// rank leaves the others waiting: whoever catches it must end them.
RunResult run_training(const TrainConfig& config, const RunEvents& events, ProcessGroup& group = single_process());

}  // namespace bezel::train
