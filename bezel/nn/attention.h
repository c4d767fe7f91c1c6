#pragma once

#include <optional>

#include <torch/types.h>

namespace bezel::nn {

/// softmax(q kᵀ + mask) v, without any scale (Gemma 4 normalises q and k instead).
/// q [B, A, T, D]; k, v [B, K, S, D] with K dividing A; mask bool, broadcastable to [B, A, T, S], true where a key may
/// be seen (undefined: every key); `causal` (only without mask, T == S): key s is seen by query t where s <= t. Returns
/// [B, T, A * D] in q's dtype. A row that may see no key gets finite, meaningless values. On the CPU it runs ATen's
/// blocked kernel, which keeps no [T, S] matrix; elsewhere the two-product form.
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& mask = {}, bool causal = false);

/// The plain form of `attention`, on any device; the reference for its test.
torch::Tensor attention_plain(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                              const torch::Tensor& mask = {}, bool causal = false);

/// Bool [B or 1, 1, Q, T], true where query t may see key s of a decoder layer:
/// (window == 0 or s > t - window) and (s <= t, or both in one picture when `picture` is given), and key s is no
/// padding. `keys` bool [B, T] or undefined (no padding); `picture` int64 [B, T], the run of image tokens a position
/// belongs to, -1 outside, or undefined. `queries` int64 [B, Q]: the positions that ask (undefined: all T). Reference:
/// create_masks_for_vision_model.
torch::Tensor decoder_mask(std::int64_t num_tokens, std::int64_t window, const torch::Tensor& keys,
                           const torch::Tensor& picture, const torch::Tensor& queries, torch::Device device);

/// For each position the number of the run of image or video tokens it is in, or -1. token_types int64 [B, T].
torch::Tensor picture_runs(const torch::Tensor& token_types);

}  // namespace bezel::nn
