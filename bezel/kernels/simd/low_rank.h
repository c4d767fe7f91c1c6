#pragma once

#include <cstdint>

#include "bezel/kernels/simd/product.h"

// What an adapter adds to an output, and the clamp behind it; compiled and chosen as the loops of row_kernels.h are.

namespace bezel::kernels::simd {

/// What happens to a value of y after the low-rank product was added.
enum class Epilogue {
  kNone,
  kClamp,  ///< clamped to [low, high]; `bits` of those inside are kept where given
  kGate,   ///< zero where `gate` is outside [low, high]
};

/// y += h · b, then the epilogue, in float32, rounded once.
struct LowRank {
  Bf16* y;               ///< [N, M]
  const Bf16* h;         ///< [N, r], scale included
  const Bf16* b;         ///< [ceil(M / kPackedWidth), r / 2, kPackedWidth, 2]: neighboring rows in pairs
  std::int64_t rank;     ///< r, even; 0: the epilogue alone
  std::int64_t columns;  ///< M
  Epilogue epilogue;
  float low;
  float high;
  const Bf16* gate;     ///< [N, M]
  std::uint32_t* bits;  ///< [N, ceil(M / 32)], or null
};

/// y = x where its bit is set, else 0.
struct Masked {
  const Bf16* x;              ///< [N, M]
  const std::uint32_t* bits;  ///< [N, ceil(M / 32)]
  Bf16* y;                    ///< [N, M]
  std::int64_t columns;       ///< M
};

/// Each function works on rows [begin, end).
struct LowRankLoops {
  void (*low_rank)(const LowRank&, std::int64_t begin, std::int64_t end);
  void (*masked)(const Masked&, std::int64_t begin, std::int64_t end);
};

// One for each instruction set, from low_rank.cpp.
const LowRankLoops& baseline_low_rank_loops();
const LowRankLoops& avx2_low_rank_loops();
const LowRankLoops& avx512_low_rank_loops();
const LowRankLoops& avx512bf16_low_rank_loops();

}  // namespace bezel::kernels::simd
