#pragma once

#include <cstdint>

namespace bezel::kernels::simd {

/// float32 lanes of a register of the instruction set that a file is compiled for: GCC keeps larger vectors in memory.
/// Static: each instruction set has its own.
#if defined(__AVX512F__)
static constexpr std::int64_t kLanes = 16;
#elif defined(__AVX__)
static constexpr std::int64_t kLanes = 8;
#else
static constexpr std::int64_t kLanes = 4;
#endif

}  // namespace bezel::kernels::simd
