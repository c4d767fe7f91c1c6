#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Rotary embedding: x [N, heads, D], cos and sin [P, groups, D] with P dividing N and groups dividing heads; row n
/// turns by the angles of row n mod P, head h by those of group h mod groups; pairs are (i, i + D/2), whose angles are
/// equal. With `back` by the opposite angles, which is the gradient. In float32, rounded once to x's dtype.
torch::Tensor apply_rope(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin, bool back);

/// The same in ATen's operators, on any device; the reference for its test.
torch::Tensor apply_rope_plain(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin, bool back);

}  // namespace bezel::kernels
