#pragma once

#include <algorithm>

#include <torch/types.h>

#include "bezel/kernels/simd/product.h"

namespace bezel::kernels {

/// B [K, R] packed in bfloat16: column panels of at most kPackedWidth columns, each [K / 2, width, 2] with pairs of
/// rows interleaved. A row of zeros makes K even.
class PackedWeight {
 public:
  /// w [K, R] of any floating dtype, whose rows or columns are contiguous; R is rounded up to a multiple of `step`,
  /// 16 or kPackedWidth, by columns of zeros.
  PackedWeight(const torch::Tensor& w, std::int64_t step);

  std::int64_t columns() const { return columns_; }
  std::int64_t width(std::int64_t first) const { return std::min(simd::kPackedWidth, columns_ - first); }
  /// The panel that begins at column `first`, a multiple of kPackedWidth; the panels follow each other.
  const simd::Bf16* at(std::int64_t first) const { return data() + first * inner_; }

 private:
  simd::Bf16* data() const { return static_cast<simd::Bf16*>(packed_.data_ptr()); }

  std::int64_t inner_, columns_;
  torch::Tensor packed_;
};

}  // namespace bezel::kernels
