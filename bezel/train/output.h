#pragma once

#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/config.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// The folder that a run writes: adapter, checkpoint-N, metrics.jsonl, trainer_state.json, model card. One run at a
/// time may hold it.
class OutputFolder {
 public:
  /// Makes the folder where there is none and locks it. Throws Error (kIo) when it cannot be written or another run
  /// holds it, Error (kConfig) when it is the checkpoint's own folder.
  explicit OutputFolder(const TrainConfig& config);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Writes config.resolved.yaml from `resolved`, which counts from here on, and begins metrics.jsonl anew.
  void start(const TrainConfig& resolved);
  void add(const StepReport& report);
  void add(const EvalReport& report);
  /// checkpoint-N, wholly or not at all; the oldest ones of this run beyond save_total_limit are removed.
  void save_checkpoint(std::int64_t step, const lora::Selection& selection, const lora::AdapterBase& base);
  /// The adapter and all that belongs to it. Returns the folder.
  std::string finish(const TrainSummary& summary, const lora::Selection& selection, const lora::AdapterBase& base);

  const std::string& path() const { return path_; }

 private:
  std::string file(const std::string& name) const;
  void append_metric(const io::Json& metric);
  void write_adapter(const std::string& folder, const lora::Selection& selection, const lora::AdapterBase& base) const;
  void write_state(const std::string& folder) const;
  void copy_processor_files() const;

  TrainConfig config_;
  std::string path_;
  int lock_ = -1;
  io::Json history_ = io::Json::array();
  StepReport last_;
  std::vector<std::string> checkpoints_;
};

}  // namespace bezel::train
