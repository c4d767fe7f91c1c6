#include "bezel/kernels/packed_gemm.h"

#include <algorithm>
#include <vector>

#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels {

using simd::Bf16;

void PackedB::resize(std::int64_t inner, std::int64_t columns) {
  if (inner * columns > scratch_) {
    scratch_ = inner * columns;
    values_ = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(scratch_));
  }
  inner_ = inner;
  columns_ = columns;
}

void PackedB::pack(const Bf16* x, std::int64_t rows) {
  const std::int64_t pairs = rows - rows % 2;
  std::vector<Bf16> last(static_cast<std::size_t>(2 * columns_), Bf16{0});  // a row without a neighbor
  if (pairs < rows) std::copy_n(x + pairs * columns_, columns_, last.data());
  for (std::int64_t column = 0; column < columns_; column += kWidth) {
    simd::products().pack({x + column, columns_, pairs, at(0, column)});
    if (pairs < rows) simd::products().pack({last.data() + column, columns_, 2, at(pairs, column)});
    std::fill(at(pairs + 2 * (rows % 2), column), at(inner_, column), Bf16{0});
  }
}

void PackedB::pack_transposed(const Bf16* x, std::int64_t count) {
  const std::int64_t whole = count - count % kWidth;
  for (std::int64_t column = 0; column < whole; column += kWidth)
    simd::products().pack_transposed({x + column * inner_, inner_, inner_, at(0, column)});
  if (whole < count) {
    std::vector<Bf16> rest(static_cast<std::size_t>(kWidth * inner_), Bf16{0});
    std::copy_n(x + whole * inner_, (count - whole) * inner_, rest.data());
    simd::products().pack_transposed({rest.data(), inner_, inner_, at(0, whole)});
  }
  std::fill(at(0, (count + kWidth - 1) / kWidth * kWidth), at(0, columns_), Bf16{0});
}

void transpose(const Transpose& t) {
  constexpr std::int64_t kRows = PackedB::kWidth;
  for (std::int64_t row = 0; row < t.rows; row += kRows) {
    const std::int64_t end = std::min(row + kRows, t.rows);
    for (std::int64_t column = 0; column < t.columns; ++column)
      for (std::int64_t i = row; i < end; ++i) t.to[column * t.ld_to + i] = t.from[i * t.ld_from + column];
  }
}

void packed_gemm(MatrixA a, const PackedB& b, Part part, Sums c, bool add) {
  constexpr std::int64_t kWidth = PackedB::kWidth;
  for (std::int64_t column = 0; column < part.columns; column += kWidth)
    simd::multiply(simd::Product{a.data, b.at(part.row, part.column + column), c.data + column, a.rows, kWidth,
                                 part.rows, a.stride, kWidth, c.stride, add});
}

}  // namespace bezel::kernels
