#include "bezel/nn/rope.h"

#include <ATen/ATen.h>

#include "bezel/kernels/vector_math.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

// x [..., A, D] with cos and sin [..., D].
Tensor turn(const Tensor& x, const Rotation& by) {
  const auto halves = x.chunk(2, -1);
  const Tensor swapped = at::cat({halves[1].neg(), halves[0]}, -1);
  return x * by.cos.unsqueeze(-2) + swapped * by.sin.unsqueeze(-2);
}

}  // namespace

Tensor inverse_frequencies(std::int64_t head_dim, double theta, double partial) {
  const auto rotated = static_cast<std::int64_t>(partial * static_cast<double>(head_dim)) / 2;
  const Tensor exponents = at::arange(0, 2 * rotated, 2, at::kFloat) / static_cast<double>(head_dim);
  return at::cat({at::reciprocal(at::pow(theta, exponents)), at::zeros({head_dim / 2 - rotated})});
}

Rotation rotation(const Tensor& positions, const Tensor& frequencies, torch::ScalarType dtype) {
  kernels::prepare_vector_math();
  const Tensor angles = positions.to(torch::kFloat).unsqueeze(-1) * frequencies.to(positions.device());
  const Tensor both = at::cat({angles, angles}, -1);  // [..., D]
  return {both.cos().to(dtype), both.sin().to(dtype)};
}

Tensor rotate(const Tensor& x, const Rotation& by) { return turn(x, by); }

Tensor rotate_axial(const Tensor& x, const Rotation& by_x, const Rotation& by_y) {
  const auto parts = x.chunk(2, -1);
  return at::cat({turn(parts[0], by_x), turn(parts[1], by_y)}, -1);
}

}  // namespace bezel::nn
