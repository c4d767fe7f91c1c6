#pragma once

#include <torch/types.h>

#include "bezel/nn/key_ranges.h"

namespace bezel::nn {

/// softmax(q kᵀ) v over the keys that each query sees, a block of queries at a time, each with the runs of keys that
/// one of them sees: no [Q, S] matrix exists, and keys out of range cost nothing. In ATen's operators, on the CPU, in
/// the dtype of q [B, A, Q, D], which k and v [B, K, S, D] share; K divides A. `ranges` has tensors, int64 [B or 1, Q].
/// Returns [B, A, Q, D]; a query without keys gets finite, meaningless values.
torch::Tensor blocked_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                const KeyRanges& ranges);

/// Queries of a block.
inline constexpr std::int64_t kAttentionBlock = 256;
/// Up to so many queries, attention takes a mask of 16 MiB and ATen's kernel instead.
inline constexpr std::int64_t kMostMaskedQueries = 2048;

}  // namespace bezel::nn
