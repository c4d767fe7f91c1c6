#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// Loops that pass over a frozen matrix once, compiled and chosen as those of row_kernels.h are.

namespace bezel::kernels::simd {

/// Whole blocks of 4-bit codes -> table[code] * scale of the block.
struct FourBit {
  const std::uint8_t* packed;  ///< [blocks * block / 2], the earlier code in the upper half
  const float* table;          ///< [16]
  const float* scales;         ///< [blocks]
  std::int64_t block;          ///< elements of a block, a multiple of 32
  Bf16* out;                   ///< [blocks * block]
};

/// Whole blocks of 64 codes, those of a few columns in each row, for products of bfloat16: as FourBit, except that a
/// value too small for a normal number may become zero, which such products take it for anyway.
struct FourBitWindow {
  const std::uint8_t* packed;  ///< [rows, columns / 2] from the first element of the window on
  const float* table;          ///< [16]
  const float* scales;         ///< [rows, columns / 64], likewise
  std::int64_t columns;        ///< of the matrix
  std::int64_t width;          ///< of the window
  Bf16* out;                   ///< [rows, width]
  std::int64_t ld_out;         ///< elements from one row of `out` to the next
};

/// Whole blocks of values -> 4-bit codes: order[number of `bounds` below value / scale].
struct ToFourBit {
  const float* x;             ///< [blocks * block]
  const float* bounds;        ///< [15], ascending
  const std::uint8_t* order;  ///< [16]
  float smallest;             ///< a scale that is less than this counts as it
  std::int64_t block;         ///< elements of a block, even
  std::uint8_t* packed;       ///< [blocks * block / 2], the earlier code in the upper half
  float* scales;              ///< [blocks]: the largest magnitude
};

/// Rows of a matrix times one vector.
struct Gemv {
  const Bf16* w;         ///< [M, K]
  const Bf16* x;         ///< [K]
  std::int64_t columns;  ///< K
  Bf16* y;               ///< [M]
};

/// The same for rows in blocks of 4-bit codes.
struct FourBitGemv {
  const std::uint8_t* packed;  ///< [M, K / 2]
  const float* table;          ///< [16]
  const float* scales;         ///< [M, K / 64]
  const float* x;              ///< [4, K / 4]: elements 1, 0, 3, 2 of each four, in that order
  const Bf16* halves;          ///< instead, with bfloat16 products: [2, K / 2], the even elements, then the odd ones
  std::int64_t columns;        ///< K, a multiple of 64
  Bf16* y;                     ///< [M]
};

/// The same for rows of whole numbers, each times its row's scale and the factor.
struct Int8Gemv {
  const std::int8_t* codes;  ///< [M, K]
  const float* scales;       ///< [M]
  float factor;
  const float* x;        ///< [K]
  const Bf16* halves;    ///< instead, with bfloat16 products: [2, K / 2], the even elements, then the odd ones
  std::int64_t columns;  ///< K, a multiple of 64
  Bf16* y;               ///< [M]
};

/// Each function works on rows (of FourBit and ToFourBit: blocks) [begin, end).
struct WeightKernels {
  void (*four_bit)(const FourBit&, std::int64_t begin, std::int64_t end);
  void (*four_bit_window)(const FourBitWindow&, std::int64_t begin, std::int64_t end);
  void (*to_four_bit)(const ToFourBit&, std::int64_t begin, std::int64_t end);
  void (*vector)(const Gemv&, std::int64_t begin, std::int64_t end);
  void (*four_bit_vector)(const FourBitGemv&, std::int64_t begin, std::int64_t end);
  void (*int8_vector)(const Int8Gemv&, std::int64_t begin, std::int64_t end);
};

// One for each instruction set, from weight_kernels.cpp.
const WeightKernels& baseline_weight_kernels();
const WeightKernels& avx2_weight_kernels();
const WeightKernels& avx512_weight_kernels();
const WeightKernels& avx512bf16_weight_kernels();

}  // namespace bezel::kernels::simd
