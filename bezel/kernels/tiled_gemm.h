#pragma once

#include <functional>

#include <torch/types.h>

#include "bezel/kernels/simd/bf16.h"

namespace bezel::kernels {

/// Rows [row, row + rows) of columns [column, column + columns).
struct Window {
  std::int64_t row = 0, rows = 0, column = 0, columns = 0;
};

/// Rows of bfloat16 elements, `ld` elements apart.
struct WindowRows {
  const simd::Bf16* data = nullptr;
  std::int64_t ld = 0;
};

/// A window of a matrix in bfloat16: written to `scratch`, whose rows are `ld` elements apart, or in place.
/// Several threads make windows at once; columns of a window begin at a multiple of kWindowStep, and end at one or with
/// the matrix.
using MakeWindow = std::function<WindowRows(const Window& window, simd::Bf16* scratch, std::int64_t ld)>;
constexpr std::int64_t kWindowStep = 64;

/// Whether products are done window by window here: x bfloat16 [N > 1, even] on a CPU without tile units (LibTorch's
/// products of larger tiles are faster on those). Without bfloat16 products both factors are widened to float32 in the
/// caches.
bool takes_windows(const torch::Tensor& x);

/// x · wᵀ -> bfloat16 [N, rows], where w [rows, columns] is made a window at a time, right before it is used, so that
/// it never leaves the caches. Sums in float32, rounded once. For an x that takes windows.
torch::Tensor tiled_gemm_nt(const torch::Tensor& x, std::int64_t rows, const MakeWindow& w);

/// x · w -> bfloat16 [N, columns]; x [N, rows]. Likewise.
torch::Tensor tiled_gemm_nn(const torch::Tensor& x, std::int64_t columns, const MakeWindow& w);

}  // namespace bezel::kernels
