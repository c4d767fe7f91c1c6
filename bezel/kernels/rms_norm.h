#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// A normalized tensor with what its backward pass needs.
struct Normed {
  torch::Tensor y;        ///< like x
  torch::Tensor inverse;  ///< float32 [N, 1]: 1 / sqrt(mean(x²) + eps) of each row
};

/// x / sqrt(mean(x²) + eps) * weight (+ residual) over the last dimension, in float32, rounded once to x's dtype; on a
/// device once more before the residual is added, as the reference does. x [..., H]; weight [H], from norm_weight, or
/// undefined; residual like x or undefined.
Normed rms_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& residual, double eps);

/// The weight in a dtype that rms_norm multiplies x by: float32, or on a device x's own, which spares it copies of x in
/// float32. Undefined stays so.
torch::Tensor norm_weight(const torch::Tensor& x, const torch::Tensor& weight);

/// Its gradient with respect to x, from dy like x.
torch::Tensor rms_norm_backward(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& inverse,
                                const torch::Tensor& dy);

/// The same in ATen's operators, on any device; the reference for its test.
Normed rms_norm_plain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& residual, double eps);
torch::Tensor rms_norm_backward_plain(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& inverse,
                                      const torch::Tensor& dy);

}  // namespace bezel::kernels
