#pragma once

#include <functional>
#include <optional>

#include <torch/types.h>

#include "bezel/kernels/simd/bf16.h"

namespace bezel::kernels {

/// Rows [row, row + rows) of columns [column, column + columns).
struct Window {
  std::int64_t row = 0, rows = 0, column = 0, columns = 0;
};

/// Writes a window of a matrix to [rows, columns] in bfloat16. Several threads may make windows at once; columns of a
/// window begin at a multiple of kWindowStep, and end at one or with the matrix.
using MakeWindow = std::function<void(const Window& window, simd::Bf16* to)>;
constexpr std::int64_t kWindowStep = 64;

/// Whether products are done window by window here: x bfloat16 [N > 1, .] on a CPU with bfloat16 products and without
/// tile units, for which LibTorch's products of larger tiles are faster.
bool takes_windows(const torch::Tensor& x);

/// x · wᵀ -> bfloat16 [N, rows], where w [rows, columns] is made a window at a time, right before it is used, so that
/// it never leaves the caches. Sums in float32, rounded once. The number of columns is a multiple of kWindowStep.
torch::Tensor window_product_nt(const torch::Tensor& x, std::int64_t rows, const MakeWindow& w);

/// x · w -> bfloat16 [N, columns]; x [N, rows]. Likewise, and the number of rows is even.
torch::Tensor window_product_nn(const torch::Tensor& x, std::int64_t columns, const MakeWindow& w);

}  // namespace bezel::kernels
