#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// The memory of the simulated device. Every page exists twice: where the device's tensors point nobody may read or
/// write, and `to_host` is where the kernels do. So a host access to a tensor of the device is a fault at once, also
/// while a kernel runs on another thread.
namespace bezel::simulated {

/// A block of at least `bytes` for the device, of whole pages, filled with 0xFF: NaN, where floats are read that nobody
/// wrote. Throws std::bad_alloc when the space is used up.
void* allocate(std::size_t bytes);
void release(void* block);

/// The same byte where kernels may use it, and back.
void* to_host(const void* device);

/// Says of the block that holds `device` what a fault report calls it; pass a literal, or a string that lives on.
void name_block(const void* device, const char* name, bool overwrite);
std::string name_of_block(const void* device);

struct MemoryUse {
  std::int64_t bytes = 0;  ///< of the blocks that live, as they were asked for
  std::int64_t peak_bytes = 0;
};
MemoryUse memory_use();
void reset_peak();

/// From now on a host access to the memory ends the process with a report: what was touched, and a stack.
void install_fault_report();

}  // namespace bezel::simulated
