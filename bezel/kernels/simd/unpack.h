#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// Loops over blocks of packed values, as GGUF files hold them. Compiled like row_kernels.cpp, once for each instruction
// set.

namespace bezel::kernels::simd {

/// Blocks -> their values, either in float32 or rounded to bfloat16.
struct Unpack {
  const std::uint8_t* blocks;
  float* wide;  ///< null: `narrow`
  Bf16* narrow;
};

/// Rows of packed blocks times one vector, each value in float32.
struct PackedProduct {
  const std::uint8_t* rows;  ///< [M, bytes of a row]
  const float* x;            ///< [K]
  std::int64_t columns;      ///< K
  Bf16* y;                   ///< [M]
};

/// The loops of one form, over blocks and over rows [begin, end). Values are those of ggml's dequantize_row_*, bit for
/// bit: a scale of 11 bits times a code of up to 8 (Q8_0), or times scale and code of together at most 13 (the K
/// forms, IQ4_XS), is exact in float32, so only the last step rounds.
struct PackedLoops {
  void (*unpack)(const Unpack&, std::int64_t begin, std::int64_t end);
  void (*product)(const PackedProduct&, std::int64_t begin, std::int64_t end);
};

struct Unpackers {
  PackedLoops q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4;
};

// One for each instruction set, from unpack.cpp.
const Unpackers& baseline_unpackers();
const Unpackers& avx2_unpackers();
const Unpackers& avx512_unpackers();

}  // namespace bezel::kernels::simd
