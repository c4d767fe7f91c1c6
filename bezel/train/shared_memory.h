#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "bezel/quant/shared_codes.h"
#include "bezel/train/config.h"
#include "bezel/train/process_group.h"

namespace bezel::train {

/// Memory that the processes of `group` on this machine share, for at most `bytes`; it is taken as it is filled, and
/// goes with the last of them. One that cannot reach it, in a container of its own perhaps, gets memory of its own,
/// with a line in `notes`. Collective, and so is wait().
std::unique_ptr<quant::SharedMemory> share_memory(ProcessGroup& group, std::size_t bytes,
                                                  std::vector<std::string>& notes);

/// share_memory for what the run quantizes while it loads; null where that is nothing, and for a process alone.
/// Collective.
std::unique_ptr<quant::SharedMemory> share_codes(const TrainConfig& config, ProcessGroup& group,
                                                 std::vector<std::string>& notes);

}  // namespace bezel::train
