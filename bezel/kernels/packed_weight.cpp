#include "bezel/kernels/packed_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {

PackedWeight::PackedWeight(const torch::Tensor& given, std::int64_t step)
    : inner_((given.size(0) + 1) / 2 * 2), columns_((given.size(1) + step - 1) / step * step) {
  torch::Tensor w = given;
  if (inner_ > w.size(0) || columns_ > w.size(1))
    w = at::constant_pad_nd(w, {0, columns_ - w.size(1), 0, inner_ - w.size(0)});
  const bool by_columns = w.t().is_contiguous();
  w = (by_columns ? w : w.contiguous()).to(torch::kBFloat16);
  packed_ = at::empty({inner_ * columns_}, w.options());
  constexpr std::int64_t kRows = 1024, kGrainElements = 1 << 16;  // rows that are packed at a time
  const std::int64_t panels = (columns_ + simd::kPackedWidth - 1) / simd::kPackedWidth;
  const std::int64_t parts = (inner_ + kRows - 1) / kRows;
  const std::int64_t elements = std::min(inner_, kRows) * std::min(columns_, simd::kPackedWidth);
  const std::int64_t grain = std::max<std::int64_t>(1, kGrainElements / std::max<std::int64_t>(elements, 1));
  at::parallel_for(0, panels * parts, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i / parts * simd::kPackedWidth, row = i % parts * kRows;
      const std::int64_t rows = std::min(kRows, inner_ - row), columns = width(first);
      simd::Bf16* to = data() + first * inner_ + row * columns;
      if (by_columns)
        simd::products().pack_transposed({simd::bf16(w) + first * inner_ + row, inner_, rows, to, columns});
      else
        simd::products().pack({simd::bf16(w) + row * columns_ + first, columns_, rows, to, columns});
    }
  });
}

}  // namespace bezel::kernels
