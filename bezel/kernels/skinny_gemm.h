#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Whether a product of x [N, K] with a factor of `narrow` columns, such as an adapter's rank, is done here: bfloat16,
/// contiguous, K even, on a CPU where products of our own pay off. LibTorch's are made for wider factors.
bool has_skinny_gemm(const torch::Tensor& x, std::int64_t narrow);

/// x · w -> bfloat16 [N, R], summed in float32, rounded once. w [K, R] of any floating dtype is rounded to bfloat16
/// first; its rows or columns are contiguous.
torch::Tensor skinny_gemm(const torch::Tensor& x, const torch::Tensor& w);

/// Whether xᵀ · y is done here; likewise, for an x or a y of few columns.
bool has_skinny_gemm_tn(const torch::Tensor& x, const torch::Tensor& y);

/// xᵀ · y -> float32 [M, K]. x [N, M], y [N, K], both bfloat16.
torch::Tensor skinny_gemm_tn(const torch::Tensor& x, const torch::Tensor& y);

}  // namespace bezel::kernels
