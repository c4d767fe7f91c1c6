#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// What attention over a whole image does between its products, and attention of one query; compiled and chosen as the
// loops of row_kernels.h are.

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

/// softmax(q kᵀ) v for one query of every head, which sees all keys. `group` query heads share a head of keys.
struct OneQuery {
  const float* q;          ///< [H * group, D]
  const Bf16* k;           ///< H heads of [S, D]
  const Bf16* v;           ///< likewise
  std::int64_t k_head;     ///< elements from one head to the next
  std::int64_t v_head;     ///< likewise
  std::int64_t keys;       ///< S
  std::int64_t columns;    ///< D, a multiple of 32
  std::int64_t group;      ///< query heads of a head of keys
  std::int64_t chunk;      ///< query heads of a task, 4 at most; the last of a head of keys may have fewer
  float* scores;           ///< [H * group, ld_scores]; overwritten
  std::int64_t ld_scores;  ///< S, rounded up to a multiple of 16
  Bf16* out;               ///< [H * group, D]
};

struct AttentionLoops {
  void (*softmax)(const Softmax&, std::int64_t begin, std::int64_t end);             ///< rows
  void (*gradient)(const AttentionGradient&, std::int64_t begin, std::int64_t end);  ///< pairs of rows
  void (*one_query)(const OneQuery&, std::int64_t begin, std::int64_t end);          ///< tasks
};

// One for each instruction set, from attention.cpp.
const AttentionLoops& baseline_attention_loops();
const AttentionLoops& avx2_attention_loops();
const AttentionLoops& avx512_attention_loops();
const AttentionLoops& avx512bf16_attention_loops();

}  // namespace bezel::kernels::simd
