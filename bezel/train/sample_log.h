#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"
#include "bezel/train/metrics_file.h"
#include "bezel/train/process_group.h"

namespace bezel::train {

/// samples.jsonl: the samples of each update, `{"step": 3, "samples": [["train.jsonl:7"], ["train.jsonl:2"]]}`, a list
/// for each process, in the order of its micro-batches.
class SampleLog {
 public:
  explicit SampleLog(const data::Dataset& samples);

  /// Begins `path` anew, or behind its lines of the first `steps_done` updates. Throws Error (kIo).
  void begin(const std::string& path, std::int64_t steps_done);
  /// What `batches` hold, of update `step`, counted from 1; a line on rank 0. Collective.
  void add(std::int64_t step, std::span<const data::Batch> batches, ProcessGroup& group);
  /// Throws Error (kIo) when lines are left that cannot be written.
  void finish() { file_.finish(); }

 private:
  std::vector<std::string> sources_of(const data::Batch& batch) const;

  const data::Dataset& samples_;
  std::map<std::uint64_t, std::size_t> sample_of_;  // by the first key of its random numbers
  MetricsFile file_;
};

}  // namespace bezel::train
