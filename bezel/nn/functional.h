#pragma once

#include <torch/types.h>

// The letters of shape comments, everywhere in Bezel:
//   B  sequences in a batch        T  tokens of a sequence      S  keys that are attended to
//   H  hidden size                 F  width of a feed-forward   V  vocabulary
//   N  rows (B*T, patches, frames) A  attention heads           K  key/value heads    D  size of a head
//   P  patches of an image         r  rank of an adapter        E  experts            L  decoder layers

namespace bezel::nn {

/// x / sqrt(mean(x²) + eps) * weight (+ residual) over the last dimension, computed in float32, returned in x's dtype.
/// x [..., H]; weight [H] or undefined (no scale); residual like x or undefined. Keeps x and one number a row for the
/// backward pass. The weight gets a gradient where it wants one.
/// Reference: Gemma4RMSNorm (the weight is used as it is, not as 1 + weight).
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                       const torch::Tensor& residual = {});

/// (x - mean) / sqrt(variance + eps) * weight over the last dimension, in float32, returned in x's dtype; no bias.
torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

/// gelu_tanh(gate) * up; both [..., F]. Keeps its two inputs only.
torch::Tensor geglu(const torch::Tensor& gate, const torch::Tensor& up);

/// a * sigmoid(b) for x [T, 2 H] of both, then a causal convolution of each channel along time by `weight` [width, H],
/// which is frozen -> [T, H]. Keeps x only. Reference: Gemma4AudioLightConv1d.
torch::Tensor gated_conv(const torch::Tensor& x, const torch::Tensor& weight);

/// Rows `index` (int64 [N]) of x [M, ...] -> [N, ...].
torch::Tensor gather_rows(const torch::Tensor& x, const torch::Tensor& index);

/// x [M, ...] with rows `index` (int64 [N], no row twice) replaced by `rows` [N, ...]. Gradients flow to `rows` only: x
/// is frozen.
torch::Tensor scatter_rows(const torch::Tensor& x, const torch::Tensor& index, const torch::Tensor& rows);

/// Sums of the rows of x [N, ...] that share a number in `index` (int64 [N], below `num_rows`) -> [num_rows, ...].
torch::Tensor segment_sum(const torch::Tensor& x, const torch::Tensor& index, std::int64_t num_rows);

/// tanh(x / cap) * cap; cap 0 leaves x alone.
torch::Tensor softcap(const torch::Tensor& x, double cap);

}  // namespace bezel::nn
