#pragma once

#include <cstdint>

#include "bezel/kernels/simd/row_kernels.h"

namespace bezel::kernels::simd {

/// c = a · b, or c += a · b with `add`: bfloat16 factors, float32 sums. Small products whose factors are in the caches;
/// on one thread. `rows` is a multiple of 4, `columns` of 16, `inner` of 2.
struct Product {
  const Bf16* a;  ///< [rows, inner]
  const Bf16* b;  ///< [inner / 2, columns, 2]: neighboring rows in pairs
  float* c;       ///< [rows, columns]
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t inner;
  std::int64_t ld_a;  ///< elements from one row of a to the next
  std::int64_t ld_b;  ///< pairs from one pair of rows of b to the next
  std::int64_t ld_c;
  bool add = false;
};

/// Columns of a packed right factor that are contiguous.
constexpr std::int64_t kPackedWidth = 64;

/// Columns of B as products take them, to [rows / 2, width, 2]; `rows` is even, `width` a multiple of 16
/// and, of a transpose, at most kPackedWidth.
struct Pack {
  const Bf16* from;
  std::int64_t ld;  ///< elements from one row of `from` to the next
  std::int64_t rows;
  Bf16* to;
  std::int64_t width = kPackedWidth;
};

/// Sums to bfloat16, to the nearest.
struct Round {
  const float* from;
  std::int64_t ld_from;
  Bf16* to;
  std::int64_t ld_to;
  std::int64_t rows;
  std::int64_t columns;
};

/// For one instruction set, from product.cpp.
struct Products {
  void (*product)(const Product&);
  /// Rows of `from`: rows of the factor.
  void (*pack)(const Pack&);
  /// Rows of `from`: the factor's columns, `width` of them.
  void (*pack_transposed)(const Pack&);
  void (*round)(const Round&);
};

const Products& baseline_products();
const Products& avx2_products();
const Products& avx512_products();
const Products& avx512bf16_products();

}  // namespace bezel::kernels::simd
