#include "bezel/kernels/block_product.h"

namespace bezel::kernels {

using simd::Bf16;

void RightFactor::resize(std::int64_t inner, std::int64_t columns) {
  inner_ = inner;
  columns_ = columns;
  values_.resize(static_cast<std::size_t>(inner * columns));
}

void RightFactor::pack(const Bf16* x, std::int64_t rows) {
  const std::vector<Bf16> zeros(static_cast<std::size_t>(columns_), Bf16{0});
  const auto row_of = [&](std::int64_t row) { return row < rows ? x + row * columns_ : zeros.data(); };
  for (std::int64_t row = 0; row < inner_; row += 2) {
    const Bf16 *even = row_of(row), *odd = row_of(row + 1);
    for (std::int64_t column = 0; column < columns_; column += kWidth) {
      Bf16* to = at(row, column);
      for (std::int64_t i = 0; i < kWidth; ++i) {
        to[2 * i] = even[column + i];
        to[2 * i + 1] = odd[column + i];
      }
    }
  }
}

void RightFactor::pack_transposed(const Bf16* x, std::int64_t count) {
  for (std::int64_t column = 0; column < columns_; ++column) {
    Bf16* to = at(0, column / kWidth * kWidth) + 2 * (column % kWidth);
    const Bf16* from = x + column * inner_;
    for (std::int64_t row = 0; row < inner_; row += 2) {
      to[row * kWidth] = column < count ? from[row] : Bf16{0};
      to[row * kWidth + 1] = column < count ? from[row + 1] : Bf16{0};
    }
  }
}

void block_product(LeftFactor a, const RightFactor& b, Part part, Sums c, bool add) {
  constexpr std::int64_t kWidth = RightFactor::kWidth;
  for (std::int64_t column = 0; column < part.columns; column += kWidth)
    simd::product()({a.data, b.at(part.row, part.column + column), c.data + column, a.rows, kWidth, part.rows, a.stride,
                     kWidth, c.stride, add});
}

}  // namespace bezel::kernels
