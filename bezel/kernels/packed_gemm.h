#pragma once

#include <memory>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

/// B [inner, columns] packed for bfloat16 dot-product instructions: pairs of rows interleaved, in column panels of
/// kWidth.
class PackedB {
 public:
  static constexpr std::int64_t kWidth = simd::kPackedWidth;

  /// Space for `inner` rows, an even number, and `columns`, a multiple of kWidth; what was packed is lost.
  void resize(std::int64_t inner, std::int64_t columns);
  /// x [rows, columns] as stored; rows beyond are zero.
  void pack(const simd::Bf16* x, std::int64_t rows);
  /// The transpose of x [count, inner]; columns beyond are zero.
  void pack_transposed(const simd::Bf16* x, std::int64_t count);
  /// Pair of rows `row / 2` of the block of columns that begins at `column`.
  simd::Bf16* at(std::int64_t row, std::int64_t column) { return values_.get() + column * inner_ + row * kWidth; }
  const simd::Bf16* at(std::int64_t row, std::int64_t column) const {
    return values_.get() + column * inner_ + row * kWidth;
  }

 private:
  std::unique_ptr<simd::Bf16[]> values_;
  std::int64_t inner_ = 0, columns_ = 0, scratch_ = 0;
};

/// to [columns, rows] = the transpose of from [rows, columns].
struct Transpose {
  const simd::Bf16* from;
  std::int64_t ld_from, rows, columns;
  simd::Bf16* to;
  std::int64_t ld_to;
};

/// On this thread, a few rows at a time, which stay in the first cache.
void transpose(const Transpose& t);

/// Which part of B, in whole pairs of rows and blocks of columns.
struct Part {
  std::int64_t row = 0, rows = 0, column = 0, columns = 0;
};

/// A, by rows that are `stride` apart; their number is a multiple of 4.
struct MatrixA {
  const simd::Bf16* data;
  std::int64_t rows, stride;
};

/// Where a result goes, likewise.
struct Sums {
  float* data;
  std::int64_t stride;
};

/// c [rows, part.columns] = a [rows, part.rows] · the part, or += with `add`, in float32 on this thread; by tile units
/// in a simd::TileRegion.
void packed_gemm(MatrixA a, const PackedB& b, Part part, Sums c, bool add = false);

}  // namespace bezel::kernels
