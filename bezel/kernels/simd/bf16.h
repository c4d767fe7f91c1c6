#pragma once

#include <cstdint>
#include <cstring>

namespace bezel::kernels::simd {

/// A bfloat16 as stored in memory.
struct Bf16 {
  std::uint16_t bits;
};

// Static: each instruction set that a loop is compiled for keeps its own.
static inline float widen(Bf16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

/// To the nearest, ties to even; NaN stays NaN.
static inline Bf16 narrow(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<std::uint16_t>(is_nan ? 0x7fc0u : rounded)};
}

}  // namespace bezel::kernels::simd
