#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// Products of bfloat16 matrices for processors that have none of their own: both factors are widened to float32, the
// right one where it is packed, so that no wide copy of a matrix exists.

namespace bezel::kernels::simd {

/// Columns of a packed right factor.
constexpr std::int64_t kWideWidth = 64;

/// c = a · b, or c += a · b with `add`, on one thread.
struct WideProduct {
  const float* a;  ///< [rows, inner]
  const float* b;  ///< packed
  float* c;        ///< [rows, kWideWidth]
  std::int64_t rows;
  std::int64_t columns;  ///< at most kWideWidth; those behind them may be overwritten
  std::int64_t inner;
  std::int64_t ld_a;  ///< elements from one row of a to the next
  bool add = false;
};

/// Columns of a right factor, to [rows * kWideWidth] in an order that its product knows. `from` has kWideWidth columns
/// to read, whatever those behind `columns` hold.
struct WidePack {
  const Bf16* from;
  std::int64_t ld;  ///< elements from one row of `from` to the next
  std::int64_t rows;
  std::int64_t columns;
  float* to;
};

/// For one instruction set, from wide_product.cpp.
struct WideProducts {
  void (*product)(const WideProduct&);
  /// Rows of `from`: rows of the factor.
  void (*pack)(const WidePack&);
  /// Rows of `from`: the factor's columns.
  void (*pack_transposed)(const WidePack&);
  void (*widen)(const Bf16* from, float* to, std::int64_t count);
};

const WideProducts& baseline_wide_products();
const WideProducts& avx2_wide_products();
const WideProducts& avx512_wide_products();

}  // namespace bezel::kernels::simd
