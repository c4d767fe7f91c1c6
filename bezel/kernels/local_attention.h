#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// How frames attend in chunks: every frame of a chunk sees frames of one context around it, by content and by
/// distance. Letters: T frames, A heads, D their size, C distances.
struct Chunks {
  double q_scale = 1.0, k_scale = 1.0;
  torch::Tensor per_dim;  ///< [D], what q is multiplied by as well
  double logit_cap = 0.0;
  double invalid_logit = 0.0;  ///< of a key that may not be seen
  torch::Tensor mask;          ///< bool [chunks, frames of a chunk, frames of a context]
  std::int64_t before = 0;     ///< frames of a context before the first one of its chunk
};

/// The heads: q, k, v [T, A, D] and keys by distance [C, A, D], where frame i of a chunk and frame j of its context are
/// at distance j - i.
struct ChunkedHeads {
  torch::Tensor q, k, v, relative;
};

/// Whether these loops do it: bfloat16 on the CPU, in float32 inside.
bool has_local_attention(const ChunkedHeads& heads);

/// softmax(cap tanh((q kᵀ + q relativeᵀ) / cap)) v -> [T, A, D] in bfloat16, rounded once.
torch::Tensor local_attention(const ChunkedHeads& heads, const Chunks& chunks);

/// Gradients of the same with respect to each of the heads.
ChunkedHeads local_attention_backward(const ChunkedHeads& heads, const Chunks& chunks, const torch::Tensor& d_out);

}  // namespace bezel::kernels
