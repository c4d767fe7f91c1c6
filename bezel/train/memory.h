#pragma once

#include <cstdint>

namespace bezel::train {

/// Memory that the system can give this process, in bytes: MemAvailable, and what the control group has left.
std::int64_t available_memory_bytes();

}  // namespace bezel::train
