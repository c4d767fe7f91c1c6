#pragma once

#include <torch/types.h>

#include "bezel/nn/key_ranges.h"

namespace bezel::nn {

/// softmax(q kᵀ) v over the keys that each query sees, without any scale (Gemma 4 normalizes q and k instead).
/// q [B, A, Q, D]; k, v [B, K, S, D] with K dividing A. Returns [B, Q, A * D] in q's dtype. A query that sees no key
/// gets finite, meaningless values. On the CPU no [Q, S] matrix is kept: bfloat16
/// runs by blocks that skip keys out of range; float32, and bfloat16 in heads of no whole vectors, in ATen's blocked
/// kernel, or, where that would need a large mask, in blocked_attention. Elsewhere it is the two-product form.
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const KeyRanges& mask = {});

/// The plain form of `attention`, on any device; the reference for its test.
torch::Tensor attention_plain(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                              const KeyRanges& mask = {});

}  // namespace bezel::nn
