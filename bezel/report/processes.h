#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/train/process_group.h"

/// What `bezel doctor` says of processes that mpirun or srun started together. All are collective.
namespace bezel::report {

/// One process of a group.
struct RankMachine {
  std::string host;
  std::int64_t cores = 0;    ///< that it may run on
  std::int64_t threads = 0;  ///< that it computes with
  std::int64_t memory_bytes = 0, available_bytes = 0;
};

/// Of every rank, by rank, once each has chosen its number of threads as a run would.
std::vector<RankMachine> rank_machines(train::ProcessGroup& group);

/// Seconds that a sum of `count` float32 over all ranks takes, the fastest of a few.
double sum_seconds(train::ProcessGroup& group, std::size_t count);

io::Json to_json(const RankMachine& machine);

}  // namespace bezel::report
