#pragma once

#include <utility>

#include <torch/types.h>

namespace bezel::nn {

/// Cosines and sines of rotary embeddings, each [..., T, D], in the compute dtype.
struct RopeTable {
  torch::Tensor cos;
  torch::Tensor sin;
};

/// Inverse frequencies float32 [D / 2]: theta^(-2i/D) for the first `partial` share, 0 (no rotation) for the rest.
/// Reference: rope types "default" (partial = 1) and "proportional" of transformers' modeling_rope_utils.
torch::Tensor inverse_frequencies(std::int64_t head_dim, double theta, double partial);

/// `constant` on `device`; it moves there itself, so that it is copied once.
const torch::Tensor& placed(torch::Tensor& constant, torch::Device device);

/// Rotation of `positions` (int64 [...]) by `frequencies` [D / 2] -> [..., D], halves repeated.
RopeTable rope_table(const torch::Tensor& positions, const torch::Tensor& frequencies, torch::ScalarType dtype);

/// x [B, T, A, D] rotated by cos, sin [B or 1, T, D]: pairs are (i, i + D/2).
torch::Tensor apply_rope(const torch::Tensor& x, const RopeTable& by);

/// Axial rotation of an image: the first half of each head turns with x, the second with y.
/// x [P, A, D], by [P, 2, D/2]: the rotation of positions [P, 2].
torch::Tensor apply_axial_rope(const torch::Tensor& x, const RopeTable& by);

}  // namespace bezel::nn
