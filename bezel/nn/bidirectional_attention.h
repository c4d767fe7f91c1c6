#pragma once

#include <torch/types.h>

#include "bezel/nn/rope.h"

namespace bezel::nn {

/// What happens to the heads before they meet.
struct BidirectionalHeads {
  torch::Tensor q_weight, k_weight;  ///< [D], of the norms; v's norm has no weight
  double eps = 0.0;
  RopeTable rotation;  ///< axial, [P, 2, D/2]
};

/// Attention over the patches of one image, where every query sees every key: softmax(q kᵀ) v without any scale, of q
/// and k normed and turned, and v normed. q [P, A, D]; k, v [P, K, D] with K dividing A, as they leave their
/// projections. Returns [P, A * D] in q's dtype. Of the heads the projections' results alone are kept.
torch::Tensor bidirectional_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                      const BidirectionalHeads& heads);

/// The same out of rms_norm, apply_axial_rope and attention; the reference for its test.
torch::Tensor bidirectional_attention_plain(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                            const BidirectionalHeads& heads);

}  // namespace bezel::nn
