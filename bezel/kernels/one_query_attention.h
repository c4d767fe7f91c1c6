#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Whether one_query_attention takes them: bfloat16 on the CPU, q [B, A, 1, D], k and v [B, K, S, D] whose heads are in
/// one piece each, D a multiple of 32, no gradient wanted.
bool has_one_query_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

/// softmax(q kᵀ) v of one query that sees every key -> [B, A, 1, D]: attention of a token that is written alone, whose
/// cost is reading keys and values. float32 within, rounded once; heads A / K share keys.
torch::Tensor one_query_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

}  // namespace bezel::kernels
