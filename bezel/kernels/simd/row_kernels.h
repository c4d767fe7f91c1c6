#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// Loops over rows of bfloat16 that the compiler vectorizes, computing in float32: the same source is compiled for
// several instruction sets, and row_kernels() picks one. Pointers and numbers only, so that no inline function of a
// library is compiled here for instructions that other machines lack. Callers share the rows out between threads.

namespace bezel::kernels::simd {

/// Rows of x / sqrt(mean(x²) + eps) * weight, plus `residual` where given.
struct RmsNorm {
  const Bf16* x;         ///< [N, H]
  const float* weight;   ///< [H], or null: ones
  const Bf16* residual;  ///< [N, H], or null
  std::int64_t columns;  ///< H
  double eps;
  Bf16* y;         ///< [N, H]; of the backward pass: dy
  float* inverse;  ///< [N]: 1 / sqrt(mean(x²) + eps)
  Bf16* dx;        ///< [N, H]; backward pass only
};

/// gelu_tanh(gate) * up over a run of elements; in the backward pass both gradients from dy.
struct Geglu {
  const Bf16* gate;
  const Bf16* up;
  Bf16* y;
  const Bf16* dy;
  Bf16* dgate;
  Bf16* dup;
};

/// x * sigmoid(x) over a run of elements; in the backward pass the gradient from dy.
struct Silu {
  const Bf16* x;
  const Bf16* dy;
  Bf16* y;  ///< of the backward pass: dx
};

/// a * sigmoid(b), then a causal convolution of each channel along time; in the backward pass the gradient from dy.
struct GatedConv {
  const Bf16* x;         ///< [T, 2 H]: a, then b
  const float* weight;   ///< [width, H]; tap i meets row t - width + 1 + i
  std::int64_t rows;     ///< T
  std::int64_t columns;  ///< H
  std::int64_t width;
  const Bf16* dy;  ///< [T, H]
  Bf16* y;         ///< [T, H]; of the backward pass: dx [T, 2 H]
};

/// Rotary embedding of x [N, heads, D]: pairs (i, i + D/2) turn by the angles of row n and group (head mod groups).
struct Rope {
  const Bf16* x;    ///< [N, heads, D]
  const Bf16* cos;  ///< [N or period, groups, D]
  const Bf16* sin;
  Bf16* y;  ///< [N, heads, D]
  std::int64_t heads;
  std::int64_t groups;
  std::int64_t columns;  ///< D
  std::int64_t period;   ///< rows of cos and sin; row n uses n mod period
  float direction;       ///< 1, or -1 for the backward pass
};

/// Softcapped cross-entropy of rows of logits, and its gradient.
struct CrossEntropy {
  Bf16* logits;                ///< [N, V]; with `gradient` overwritten by the gradient with respect to them
  const std::int64_t* labels;  ///< [N]
  std::int64_t columns;        ///< V
  float cap;                   ///< 0: none
  double* loss;                ///< [N]
  bool gradient;
};

/// Elements rounded to bfloat16.
struct Rounded {
  const float* from;
  Bf16* to;
};

/// Dot products of rows, in float32.
struct RowDots {
  const Bf16* x;  ///< [N, columns], rows `ld_x` apart
  std::int64_t ld_x;
  const Bf16* y;  ///< [N, columns], rows `ld_y` apart
  std::int64_t ld_y;
  std::int64_t columns;
  float* dots;  ///< [N]
};

/// Softmax over some runs of columns of each row, see attention.h; the other weights are 0.
struct RangedSoftmax {
  float* scores;  ///< [N, columns]; overwritten
  std::int64_t columns;
  const std::int64_t* first;  ///< [ranges, N'], the first column of each run that a row sees
  const std::int64_t* end;    ///< [ranges, N'], the column after the last; runs of one row do not overlap
  std::int64_t ranges;
  std::int64_t ld_ranges;  ///< N'
  Bf16* weights;           ///< [N, columns]
  float* log_sum;          ///< [N]; 0 for a row that sees nothing
};

/// AttentionGradient where each column sees some runs of rows; the others' weights are 0.
struct RangedGradient {
  const float* scores;     ///< [N, columns]
  const float* d_weights;  ///< [N, columns]
  const float* log_sum;    ///< [columns]
  const float* delta;      ///< [columns]
  std::int64_t columns;    ///< at most kPackedWidth
  const std::int64_t*
      first;                ///< [ranges, columns'], the first row of each run that a column sees, counted from `shift`
  const std::int64_t* end;  ///< [ranges, columns'], the row after the last
  std::int64_t ranges;
  std::int64_t ld_ranges;  ///< columns'
  std::int64_t shift;
  Bf16* weights;   ///< [N, columns]
  Bf16* d_scores;  ///< [N, columns]
  Bf16* d_pairs;   ///< [N / 2, columns, 2]
};

/// Attention of frames in chunks: every frame of a chunk sees frames of one context around it, by content and by
/// distance, which is the place in the context less that in the chunk.
struct LocalAttention {
  const Bf16 *q, *k, *v;  ///< [T, A, D]
  const Bf16* relative;   ///< [C, A, D], keys by distance
  const float* per_dim;   ///< [D], what q is multiplied by beside q_scale
  const bool* mask;       ///< [chunks, chunk, context]
  float q_scale, k_scale;
  float cap;                    ///< of the logits; 0: none
  float invalid;                ///< logit of a key that may not be seen
  std::int64_t frames;          ///< T
  std::int64_t heads;           ///< A
  std::int64_t columns;         ///< D
  std::int64_t chunk;           ///< frames of a chunk
  std::int64_t context;         ///< frames of a context
  std::int64_t before;          ///< of those, how many are before the first frame of the chunk
  std::int64_t distances;       ///< C
  Bf16* out = nullptr;          ///< [T, A, D]
  const Bf16* d_out = nullptr;  ///< likewise; backward pass only
  Bf16 *dq = nullptr, *dk = nullptr, *dv = nullptr, *d_relative = nullptr;
};

/// Bernoulli mask by a hash of counters, see kernels/random_rows.h.
struct KeepMask {
  const std::uint64_t* rows;  ///< [N], random bits for each row
  std::int64_t columns;
  std::uint32_t least;  ///< random bits below it drop an element
  bool* keep;           ///< [N, columns]
};

/// Constants of that hash.
inline constexpr std::uint32_t kRandomStride = 0x9E3779B1u;
inline constexpr std::uint32_t kRandomFactors[2] = {0x85EBCA6Bu, 0xC2B2AE35u};

/// D rounded up to the vectors of any instruction set.
static inline std::int64_t chunked_width(const LocalAttention& a) { return (a.columns + 15) / 16 * 16; }

/// float32 elements, all zero, that a thread needs as scratch, whatever part it does.
static inline std::int64_t local_attention_scratch(const LocalAttention& a) {
  const std::int64_t rows = 3 * a.chunk + 4 * a.context + 2 * a.distances + 2 * a.frames;
  return rows * chunked_width(a) + 3 * a.context;
}

/// Each function works on rows (of Geglu, Silu, Rounded: elements, of the gradients of attention: pairs
/// of rows) [begin, end).
struct RowKernels {
  void (*rms_norm)(const RmsNorm&, std::int64_t begin, std::int64_t end);
  void (*rms_norm_backward)(const RmsNorm&, std::int64_t begin, std::int64_t end);
  void (*geglu)(const Geglu&, std::int64_t begin, std::int64_t end);
  void (*geglu_backward)(const Geglu&, std::int64_t begin, std::int64_t end);
  void (*silu)(const Silu&, std::int64_t begin, std::int64_t end);
  void (*silu_backward)(const Silu&, std::int64_t begin, std::int64_t end);
  /// With scratch for `width` rows and one more, float32.
  void (*gated_conv)(const GatedConv&, std::int64_t begin, std::int64_t end, float* scratch);
  void (*gated_conv_backward)(const GatedConv&, std::int64_t begin, std::int64_t end, float* scratch);
  void (*apply_rope)(const Rope&, std::int64_t begin, std::int64_t end);
  void (*cross_entropy)(const CrossEntropy&, std::int64_t begin, std::int64_t end);
  void (*ranged_softmax)(const RangedSoftmax&, std::int64_t begin, std::int64_t end);
  void (*round)(const Rounded&, std::int64_t begin, std::int64_t end);
  void (*row_dots)(const RowDots&, std::int64_t begin, std::int64_t end);
  void (*ranged_gradient)(const RangedGradient&, std::int64_t begin, std::int64_t end);
  /// Pairs of a chunk and a head, chunks outermost.
  void (*local_attention)(const LocalAttention&, std::int64_t begin, std::int64_t end, float* scratch);
  /// Heads.
  void (*local_attention_backward)(const LocalAttention&, std::int64_t begin, std::int64_t end, float* scratch);
  void (*keep_mask)(const KeepMask&, std::int64_t begin, std::int64_t end);
};

// One for each instruction set, from row_kernels.cpp.
const RowKernels& baseline_row_kernels();
const RowKernels& avx2_row_kernels();
const RowKernels& avx512_row_kernels();

}  // namespace bezel::kernels::simd
