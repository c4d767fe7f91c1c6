#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::report {

/// What Bezel runs on, as JSON: cpu, cores, instruction_sets (those that matrix products profit from), memory_bytes and
/// available_bytes, disk_free_bytes of the working folder, system, libtorch, cpu_capability (what LibTorch uses),
/// products (what multiplies bfloat16 matrices, see kernels::describe_products), threads, cuda_devices.
io::Json machine();

}  // namespace bezel::report
