#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// What attention gives, and keeps for its gradient.
struct Attended {
  torch::Tensor out;      ///< q's shape and dtype
  torch::Tensor log_sum;  ///< float32, heads first: log of the sum of exponentials of each query's scores
};

struct AttentionGradients {
  torch::Tensor q, k, v;  ///< each of its shape
};

}  // namespace bezel::kernels
