#pragma once

#include <cstdint>

#include "bezel/kernels/simd/loops.h"

namespace bezel::kernels::simd {

/// c = a · b, or c += a · b with `add`: bfloat16 factors, float32 sums. Small products whose factors lie in the caches;
/// on one thread. `rows` is a multiple of 4, `columns` of 16, `inner` of 2.
struct Product {
  const Bf16* a;  ///< [rows, inner]
  const Bf16* b;  ///< [inner / 2, columns, 2]: neighbouring rows in pairs
  float* c;       ///< [rows, columns]
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t inner;
  std::int64_t ld_a;  ///< elements from one row of a to the next
  std::int64_t ld_b;  ///< pairs from one pair of rows of b to the next
  std::int64_t ld_c;
  bool add = false;
};

// One for each instruction set, from product.cpp.
void baseline_product(const Product& p);
void avx2_product(const Product& p);
void avx512_product(const Product& p);
void avx512bf16_product(const Product& p);

}  // namespace bezel::kernels::simd
