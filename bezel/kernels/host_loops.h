#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Whether a tensor's elements are the host's to read: then the loops in kernels/ may run, where they take its dtype
/// and layout. Every other device gets ATen's operators. This is the one place that decides between the two.
inline bool may_loop(const torch::Tensor& tensor) { return tensor.is_cpu(); }

}  // namespace bezel::kernels
