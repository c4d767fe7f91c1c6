#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Whether gemv takes them: x bfloat16 [1, K], w bfloat16 [M, K] in one piece, on the CPU.
bool has_gemv(const torch::Tensor& x, const torch::Tensor& w);

/// x · wᵀ -> bfloat16 [1, M]: the product of a token that is written alone, whose cost is reading w. Sums in float32,
/// rounded once; no copy of w is made on any machine.
torch::Tensor gemv(const torch::Tensor& x, const torch::Tensor& w);

/// The same in ATen's operators; the reference for its test.
torch::Tensor gemv_plain(const torch::Tensor& x, const torch::Tensor& w);

/// Whether gemv_int8 takes them: x bfloat16 [1, K], codes int8 [M, K] in one piece, K a multiple of 64, on the CPU.
bool has_gemv_int8(const torch::Tensor& x, const torch::Tensor& codes);

/// x · wᵀ -> bfloat16 [1, M], where w [M, K] is code * scale of the row * factor, not rounded; scales floating [M] or
/// [M, 1]. Streams the codes and sums in float32, rounded once.
torch::Tensor gemv_int8(const torch::Tensor& x, const torch::Tensor& codes, const torch::Tensor& scales, float factor);

}  // namespace bezel::kernels
