#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/train/config.h"
#include "bezel/train/fingerprint.h"
#include "bezel/train/optimizer.h"
#include "bezel/train/process_group.h"
#include "bezel/train/resume.h"

/// What the processes of a run settle before its first step. All but config_of_rank() and of_share() are collective.
namespace bezel::train {

/// `config` of one of several processes: global_batch_size is set, and only rank 0 writes reports and predictions.
/// Throws Error (kConfig) when an update has fewer micro-batches than there are processes.
TrainConfig config_of_rank(TrainConfig config, const ProcessGroup& group);

/// Sets the number of threads: the config's, else OMP_NUM_THREADS, else this process's cores, shared with the processes
/// that have the same ones.
void choose_threads(const TrainConfig& config, ProcessGroup& group);

/// Throws Error (kData) naming a host whose model, data or config is not rank 0's.
void check_inputs_alike(const RunFacts& facts, ProcessGroup& group);
/// Throws Error (kIo) naming a host that finds another checkpoint to go on from.
void check_resume_alike(const std::optional<ResumePoint>& resume, ProcessGroup& group);
/// Throws Error (kData) naming a host whose adapter starts from other numbers.
void check_adapters_alike(const NamedTensors& tensors, ProcessGroup& group);

/// "4 processes share each update: 2 on node1, 2 on node2; …"
std::string ranks_note(const TrainConfig& config, ProcessGroup& group);

/// What a process alone should say of this machine's memory nodes; "" where there is one, and for other devices.
std::string node_hint(torch::Device device);

/// Every size-th of `items` from the rank-th on.
std::vector<std::int64_t> of_share(const std::vector<std::int64_t>& items, const ProcessGroup& group);

}  // namespace bezel::train
