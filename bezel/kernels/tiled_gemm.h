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

/// Whether products are done window by window here: x bfloat16 [N > 1, even] on the CPU, by its tile units, by its
/// products of bfloat16, or without any, both factors widened to float32 in the caches. Not where LibTorch alone may
/// use tile units: its products of larger parts are faster than ours without.
bool takes_windows(const torch::Tensor& x);

/// x · wᵀ -> bfloat16 [N, rows], where w [rows, columns] is made a window at a time, right before it is used, so that
/// it never leaves the caches. Sums in float32, rounded once. For an x that takes windows.
torch::Tensor tiled_gemm_nt(const torch::Tensor& x, std::int64_t rows, const MakeWindow& w);

/// x · w -> bfloat16 [N, columns]; x [N, rows]. Likewise.
torch::Tensor tiled_gemm_nn(const torch::Tensor& x, std::int64_t columns, const MakeWindow& w);

/// tiled_gemm_nn by tile units, for a w that is made some rows at a time: the sums stay in float32 between, so that the
/// bits are those of one product.
class PartialSums {
 public:
  /// Rows of w of every part but the last are a multiple of it.
  static constexpr std::int64_t kStep = 256;

  /// [N, columns], zero
  PartialSums(std::int64_t rows, std::int64_t columns);
  /// += x · part of w; x [N, rows of the part]
  void add(const torch::Tensor& x, const MakeWindow& part);
  /// Rounded once -> bfloat16 [N, columns]
  torch::Tensor rounded() const;

 private:
  std::int64_t rows_, columns_;
  torch::Tensor sums_;  // [ceil(columns / 64), N', 64]
  bool is_begun_ = false;
};

}  // namespace bezel::kernels
