#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// What attention gives, and keeps for its gradient.
struct Attended {
  torch::Tensor out;      ///< [H, T, D], q's dtype
  torch::Tensor log_sum;  ///< float32 [H, T']: log of the sum of exponentials of each query's scores
};

struct AttentionGradients {
  torch::Tensor q, k, v;  ///< each [H, T, D]
};

/// Whether full_attention runs here: bfloat16 on a CPU whose tile products LibTorch knows, heads of an even size.
bool has_full_attention(const torch::Tensor& q, const torch::Tensor& k);

/// softmax(q kᵀ) v where every query sees every key. q, k, v bfloat16 [H, T, D]. Scores are float32, one block of
/// queries at a time; probabilities are rounded to bfloat16 for the second product.
Attended full_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

/// Its gradients from d_out [H, T, D]. Scores are made again, one block of keys at a time.
AttentionGradients full_attention_backward(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                           const Attended& attended, const torch::Tensor& d_out);

}  // namespace bezel::kernels
