#pragma once

#include <torch/types.h>

namespace bezel::test {

/// The norm of the difference over that of `wanted`, in float32.
inline double relative_error(const torch::Tensor& got, const torch::Tensor& wanted) {
  const torch::Tensor wide = wanted.to(torch::kFloat);
  return ((got.to(torch::kFloat) - wide).norm() / wide.norm()).item<double>();
}

}  // namespace bezel::test
