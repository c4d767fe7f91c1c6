#pragma once

#include <cstdint>

#include "bezel/kernels/simd/loops.h"

// Loops over blocks of packed values, as GGUF files hold them. Compiled like loops.cpp, once for each instruction set.

namespace bezel::kernels::simd {

/// Blocks -> their values, either in float32 or rounded to bfloat16.
struct Unpack {
  const std::uint8_t* blocks;
  float* wide;  ///< null: `narrow`
  Bf16* narrow;
};

/// One function for each form, over blocks [begin, end). Values are those of ggml's dequantize_row_*, bit for bit: a
/// product of a scale of 11 bits, one of 6 to 8 and a code of 4 to 8 is exact in float32, so only the last step rounds.
struct Unpackers {
  void (*q4_0)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q4_1)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q5_0)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q5_1)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q8_0)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q4_k)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q5_k)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*q6_k)(const Unpack&, std::int64_t begin, std::int64_t end);
};

// One for each instruction set, from unpack.cpp.
const Unpackers& baseline_unpackers();
const Unpackers& avx2_unpackers();
const Unpackers& avx512_unpackers();

}  // namespace bezel::kernels::simd
