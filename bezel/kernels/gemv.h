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

}  // namespace bezel::kernels
