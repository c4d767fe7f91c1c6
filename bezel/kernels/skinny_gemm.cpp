#include "bezel/kernels/skinny_gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/packed_weight.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;

constexpr std::int64_t kNarrow = 256;  // columns that still count as few
constexpr std::int64_t kPackWidth = simd::kPackedWidth;
constexpr std::int64_t kVectorColumns = 16;
constexpr std::int64_t kRowGroup = 4;  // a product takes rows in such groups

// A few rows of x times all panels.
void rows_product(const Tensor& x, std::int64_t row, std::int64_t rows, const PackedWeight& w, std::vector<float>& sums,
                  Tensor& y) {
  sums.resize(static_cast<std::size_t>(rows * kPackWidth));
  for (std::int64_t first = 0; first < w.columns(); first += kPackWidth) {
    const std::int64_t width = w.width(first), count = std::min(width, y.size(1) - first);
    simd::multiply(simd::Product{simd::bf16(x) + row * x.size(1), w.at(first), sums.data(), rows, width, x.size(1),
                                 x.size(1), width, width});
    simd::products().round({sums.data(), width, simd::bf16(y) + row * y.size(1) + first, y.size(1), rows, count});
  }
}

// aᵀ [R', N'] for a [N, R]: rows of zeros behind it make whole groups, a column of them an even number.
Tensor transposed(const Tensor& a) {
  return at::constant_pad_nd(a.t(), {0, a.size(0) % 2, 0, (kRowGroup - a.size(1) % kRowGroup) % kRowGroup})
      .contiguous();
}

// What one thread computes of aᵀ · w: kPackWidth columns of w at a time, from a few rows at a time, which are read as
// they lie.
class ColumnSums {
 public:
  ColumnSums(const Tensor& a_transposed, const Tensor& w, std::int64_t first, std::int64_t panels)
      : a_(a_transposed),
        w_(w),
        first_(first * kPackWidth),
        width_(panels * kPackWidth),
        packed_(kPackWidth * kBlock),
        scratch_(kPackWidth * kBlock),
        sums_(static_cast<std::size_t>(a_.size(0) * width_)) {}

  void run() {
    for (std::int64_t row = 0; row < a_.size(1); row += kBlock)
      for (std::int64_t column = 0; column < width_; column += kPackWidth) add(row, column);
  }
  // Into [R, M], or where `by_columns` into [M, R].
  void store(Tensor& to, std::int64_t rank, bool by_columns) const {
    auto* out = to.data_ptr<float>();
    const std::int64_t columns = w_.size(1), count = std::min(width_, columns - first_);
    if (by_columns) {
      for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t j = 0; j < rank; ++j) out[(first_ + i) * rank + j] = sums_[j * width_ + i];
    } else {
      for (std::int64_t j = 0; j < rank; ++j) std::copy_n(sums_.data() + j * width_, count, out + j * columns + first_);
    }
  }

 private:
  static constexpr std::int64_t kBlock = 256;  // rows, whose packed columns fit the L1 cache

  void add(std::int64_t row, std::int64_t column) {
    const std::int64_t rows = std::min(kBlock, a_.size(1) - row), ld = w_.size(1);
    const std::int64_t real = std::min(rows, w_.size(0) - row), columns = std::min(kPackWidth, ld - first_ - column);
    const Bf16* from = simd::bf16(w_) + row * ld + first_ + column;
    // The next blocks are at as many addresses as there are rows, which hardware does not prefetch.
    for (std::int64_t i = 0; i < real; ++i) {
      __builtin_prefetch(from + i * ld + kPackWidth);
      __builtin_prefetch(from + i * ld + kPackWidth + kPackWidth / 2);
    }
    if (real == rows && columns == kPackWidth) {
      simd::products().pack({from, ld, rows, packed_.data()});
    } else {
      std::ranges::fill(scratch_, Bf16{0});
      for (std::int64_t i = 0; i < real; ++i) std::copy_n(from + i * ld, columns, scratch_.data() + i * kPackWidth);
      simd::products().pack({scratch_.data(), kPackWidth, rows, packed_.data()});
    }
    simd::multiply(simd::Product{simd::bf16(a_) + row, packed_.data(), sums_.data() + column, a_.size(0), kPackWidth,
                                 rows, a_.size(1), kPackWidth, width_, row > 0});
  }

  const Tensor &a_, &w_;
  std::int64_t first_, width_;
  std::vector<Bf16> packed_, scratch_;
  std::vector<float> sums_;  // [R', width]
};

}  // namespace

bool has_skinny_gemm(const Tensor& x, std::int64_t narrow) {
  return narrow > 0 && narrow <= kNarrow && simd::takes({x}) && x.size(1) % 2 == 0 && x.size(0) > 0 &&
         simd::has_own_products();
}

Tensor skinny_gemm(const Tensor& given, const Tensor& w) {
  TORCH_CHECK(given.size(1) == w.size(0), given.sizes(), " times ", w.sizes());
  const std::int64_t missing = std::max<std::int64_t>(0, kRowGroup - given.size(0));
  const Tensor x = missing == 0 ? given : at::constant_pad_nd(given, {0, 0, 0, missing});
  const PackedWeight panels(w, kVectorColumns);
  Tensor y = at::empty({x.size(0), w.size(1)}, x.options());
  const std::int64_t groups = x.size(0) / kRowGroup;
  at::parallel_for(0, groups, 3, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    std::vector<float> sums;
    rows_product(x, begin * kRowGroup, (end - begin) * kRowGroup, panels, sums, y);
    // The last rows, fewer than a group, with some that are done already.
    if (end == groups && groups * kRowGroup < x.size(0))
      rows_product(x, x.size(0) - kRowGroup, kRowGroup, panels, sums, y);
  });
  return missing == 0 ? y : y.narrow(0, 0, given.size(0));
}

bool has_skinny_gemm_tn(const Tensor& x, const Tensor& y) {
  return simd::takes({x, y}) && x.size(0) > 0 && std::min(x.size(1), y.size(1)) <= kNarrow && simd::has_own_products();
}

Tensor skinny_gemm_tn(const Tensor& x, const Tensor& y) {
  TORCH_CHECK(x.size(0) == y.size(0), "the transpose of ", x.sizes(), " times ", y.sizes());
  const bool by_columns = x.size(1) > y.size(1);
  const Tensor &wide = by_columns ? x : y, &narrow = by_columns ? y : x;
  const Tensor a = transposed(narrow);
  Tensor out = at::empty({x.size(1), y.size(1)}, x.options().dtype(torch::kFloat));
  at::parallel_for(0, (wide.size(1) + kPackWidth - 1) / kPackWidth, 1, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    ColumnSums sums(a, wide, begin, end - begin);
    sums.run();
    sums.store(out, narrow.size(1), by_columns);
  });
  return out;
}

}  // namespace bezel::kernels
