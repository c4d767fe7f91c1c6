#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/checkpoint.h"
#include "bezel/train/config.h"
#include "bezel/train/expert_load.h"
#include "bezel/train/log_history.h"
#include "bezel/train/metrics_file.h"
#include "bezel/train/resume.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// How long a run is, for what the folder says of it.
struct RunLength {
  std::int64_t total_steps = 0;
  std::int64_t steps_per_epoch = 1;
};

/// What is trained, for saving it; borrowed.
struct Trained {
  const lora::Selection& selection;
  const lora::AdapterBase& base;
  const Optimizer& optimizer;
  const NamedTensors* residuals = nullptr;  ///< of all processes
};

/// The folder that a run writes: adapter, checkpoint-N, metrics.jsonl, trainer_state.json, model card. One run at a
/// time may hold it.
class OutputFolder {
 public:
  /// Creates the folder where it is missing and locks it. Throws Error (kIo) when it cannot be written or another run
  /// holds it, Error (kConfig) when it is the checkpoint's own folder. Where another process of the run writes, with
  /// `writes` false, nothing is written or locked.
  explicit OutputFolder(const TrainConfig& config, bool writes = true);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// The run that wrote here last, "" when unknown: two runs may leave checkpoints side by side.
  const std::string& run_id() const { return run_id_; }

  /// Removes what a killed run left half-written, writes config.resolved.yaml, and begins metrics.jsonl and the history
  /// anew, or where `resume` has them.
  void start(const RunLength& length, const std::optional<ResumePoint>& resume);
  void add(const StepReport& report);
  void add(const EvalReport& report);
  void add(std::int64_t step, const std::vector<LayerLoad>& layers);
  /// checkpoint-N, wholly or not at all; `state` gets this run's id. Then the oldest ones of this run beyond
  /// save_total_limit are removed, but for the best by metric_for_best_model. Returns its path. Throws Error (kIo).
  std::string save_checkpoint(TrainingState& state, const Trained& trained);
  /// The adapter and all that belongs to it. Returns the folder.
  std::string finish(const TrainerState& state, const TrainSummary& summary, const Trained& trained);

  const std::string& path() const { return path_; }
  std::string checkpoint_path(std::int64_t step) const;

 private:
  std::string file(const std::string& name) const;
  void set_run_id(const std::string& id);
  void go_on_from(const ResumePoint& resume);
  void remove_old_checkpoints(const std::optional<BestEval>& best);
  /// trainer_state.json; `newest` is the checkpoint it is written into, if any.
  std::string state_text(const TrainerState& state, std::optional<std::int64_t> newest) const;
  void copy_processor_files() const;

  const TrainConfig config_;
  RunLength length_;
  std::string path_;
  std::string run_id_;
  bool writes_ = true;
  int lock_ = -1;
  MetricsFile metrics_;
  LogHistory history_;
  std::vector<std::int64_t> checkpoints_;  // steps of this run's, oldest first
};

}  // namespace bezel::train
