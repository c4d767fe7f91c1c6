#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/train/checkpoint.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// "checkpoint-<step>" in an output folder.
struct NumberedCheckpoint {
  std::string path;
  std::int64_t step = 0;
};

/// The checkpoints in `folder` by their names alone, newest first.
std::vector<NumberedCheckpoint> list_checkpoints(const std::string& folder);

/// The point at which a run resumes.
struct ResumePoint {
  std::string folder;
  TrainingState state;
};

/// The checkpoint that resume_from_checkpoint selects, its files verified against their SHA-256: the folder it names,
/// or the newest one that is whole of those in the output folder, or in the folder it names. Passed over, with a line
/// in `warnings`: damaged ones, and with "auto" those of another run than `run_id` ("": unknown). Nothing when it
/// selects none, or for "auto" and there is none. Throws Error when it names something that is not a checkpoint, and
/// when all are damaged.
std::optional<ResumePoint> find_resume_point(const TrainConfig& config, const std::string& run_id,
                                             std::vector<std::string>& warnings);

/// Whether the run that was saved is this one. Throws Error (kConfig) listing what differs when it is not; with `force`
/// those are lines in `warnings`, and so is always what may only change the last bits (threads, CPU).
bool check_same_run(const ResumePoint& point, const RunFacts& now, bool force, std::vector<std::string>& warnings);

}  // namespace bezel::train
