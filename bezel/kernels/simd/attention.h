#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// What attention over a whole image does between its products; compiled and chosen as the loops of row_kernels.h are.

namespace bezel::kernels::simd {

/// Rows of scores -> exp(score - log of the row's sum of them).
struct Softmax {
  float* scores;         ///< [N, columns]; overwritten
  std::int64_t columns;  ///< a multiple of 16
  std::int64_t seen;     ///< columns from this one on get weight 0
  Bf16* weights;         ///< [N, columns]
  float* log_sum;        ///< [N]
};

/// Gradients of attention's scores for a block of keys; rows are keys, columns queries.
struct AttentionGradient {
  const float* scores;     ///< [N, columns]
  const float* d_weights;  ///< [N, columns]
  const float* log_sum;    ///< [columns]
  const float* delta;      ///< [columns]: the sum of out * d_out of each query
  std::int64_t rows;       ///< N, even
  std::int64_t columns;    ///< a multiple of 64
  std::int64_t seen;       ///< rows from this one on are no keys
  Bf16* weights;           ///< [N, columns]
  Bf16* d_scores;          ///< [N, columns]
  Bf16* d_pairs;           ///< [columns / 64, N / 2, 64, 2]: d_scores, neighboring rows in pairs, in panels of columns
};

struct AttentionLoops {
  void (*softmax)(const Softmax&, std::int64_t begin, std::int64_t end);             ///< rows
  void (*gradient)(const AttentionGradient&, std::int64_t begin, std::int64_t end);  ///< pairs of rows
};

// One for each instruction set, from attention.cpp.
const AttentionLoops& baseline_attention_loops();
const AttentionLoops& avx2_attention_loops();
const AttentionLoops& avx512_attention_loops();
const AttentionLoops& avx512bf16_attention_loops();

}  // namespace bezel::kernels::simd
