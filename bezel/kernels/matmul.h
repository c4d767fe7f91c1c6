#pragma once

#include <functional>

#include <torch/types.h>

#include "bezel/kernels/tiled_gemm.h"

namespace bezel::kernels {

/// Whether matrix products of `dtype` on `device` should be done by widening to float32: true for bfloat16 and float16
/// on CPUs without bf16 instructions (or with ONEDNN_MAX_CPU_ISA / ATEN_CPU_CAPABILITY set below them).
bool needs_fp32_gemm(torch::ScalarType dtype, torch::Device device);

/// A matrix [M, K] that is made a part at a time.
struct Tiles {
  std::int64_t rows = 0;     ///< M
  std::int64_t columns = 0;  ///< K
  /// Rows [begin, begin + count) -> [count, K] in `dtype`.
  std::function<torch::Tensor(std::int64_t begin, std::int64_t count, torch::ScalarType dtype)> make;
  /// Windows of it, which are then used: only for an x that takes them, see takes_windows.
  MakeWindow make_window = {};
};

/// x · wᵀ in x's dtype. x [N, K], w [M, K] of any floating dtype -> [N, M]. w is rounded to x's dtype first. Where
/// products are widened, w is widened a part at a time: no full float32 copy of it exists. Accumulates in float32,
/// rounds once.
torch::Tensor matmul_nt(const torch::Tensor& x, const torch::Tensor& w);
torch::Tensor matmul_nt(const torch::Tensor& x, const Tiles& w);

/// x · w in x's dtype. x [N, M], w [M, K] -> [N, K]; otherwise as matmul_nt.
torch::Tensor matmul_nn(const torch::Tensor& x, const torch::Tensor& w);
torch::Tensor matmul_nn(const torch::Tensor& x, const Tiles& w);

/// xᵀ · y, returned in float32, for gradients of adapters. x [N, M], y [N, K] -> [M, K]. Where one is float32 and the
/// other is not, the product takes both in the narrower dtype.
torch::Tensor matmul_tn(const torch::Tensor& x, const torch::Tensor& y);

}  // namespace bezel::kernels
