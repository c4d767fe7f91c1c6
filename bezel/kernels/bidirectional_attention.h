#pragma once

#include <torch/types.h>

#include "bezel/kernels/attention.h"

namespace bezel::kernels {

/// Whether bidirectional_attention takes these: bfloat16 on a CPU, as many heads of keys as of queries.
bool has_bidirectional_attention(const torch::Tensor& q, const torch::Tensor& k);

/// softmax(q kᵀ) v where every query sees every key. q, k, v bfloat16 [P, A, D]. Scores are float32, one block of
/// queries at a time; probabilities are rounded to bfloat16 for the second product. log_sum is [A, P'], P' the whole
/// blocks that P fills; rows beyond P are huge.
Attended bidirectional_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

/// Its gradients from d_out [P, A, D]. Scores are made again, a block of keys and queries at a time.
AttentionGradients bidirectional_attention_backward(const torch::Tensor& q, const torch::Tensor& k,
                                                    const torch::Tensor& v, const Attended& attended,
                                                    const torch::Tensor& d_out);

}  // namespace bezel::kernels
