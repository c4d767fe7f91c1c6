#pragma once

#include <torch/types.h>

#include "bezel/kernels/local_attention.h"

namespace bezel::nn {

using kernels::ChunkedHeads;
using kernels::Chunks;

/// Attention in chunks with relative positions (Transformer-XL, arXiv 1901.02860, appendix B), in float32, returned in
/// q's dtype [T, A * D]. Keeps the heads alone for the backward pass. Reference: Gemma4AudioAttention.
torch::Tensor local_attention(const ChunkedHeads& heads, const Chunks& chunks);

/// The same in ATen's operators; what other devices and dtypes use, and the reference for its test.
torch::Tensor local_attention_plain(const ChunkedHeads& heads, const Chunks& chunks);

}  // namespace bezel::nn
