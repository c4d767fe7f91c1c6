#include "bezel/nn/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/rope.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x [N, heads, D]; cos and sin [P, groups, D].
class RotateFunction : public torch::autograd::Function<RotateFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cos, const Tensor& sin) {
    context->save_for_backward({cos, sin});
    return kernels::apply_rope(x, cos, sin, /*back=*/false);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    return {kernels::apply_rope(grads[0], saved[0], saved[1], /*back=*/true), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor inverse_frequencies(std::int64_t head_dim, double theta, double partial) {
  const auto rotated = static_cast<std::int64_t>(partial * static_cast<double>(head_dim)) / 2;
  const Tensor exponents = at::arange(0, 2 * rotated, 2, at::kFloat) / static_cast<double>(head_dim);
  return at::cat({at::reciprocal(at::pow(theta, exponents)), at::zeros({head_dim / 2 - rotated})});
}

const Tensor& placed(Tensor& constant, torch::Device device) {
  if (constant.device() != device) constant = constant.to(device);
  return constant;
}

RopeTable rope_table(const Tensor& positions, const Tensor& frequencies, torch::ScalarType dtype) {
  kernels::prepare_vector_math();
  const Tensor angles = positions.to(torch::kFloat).unsqueeze(-1) * frequencies;
  const Tensor both = at::cat({angles, angles}, -1);  // [..., D]
  return {both.cos().to(dtype), both.sin().to(dtype)};
}

Tensor apply_rope(const Tensor& x, const RopeTable& by) {
  const std::int64_t columns = x.size(-1);
  const auto table = [&](const Tensor& angles) { return angles.reshape({-1, 1, columns}); };
  return RotateFunction::apply(x.reshape({-1, x.size(-2), columns}), table(by.cos), table(by.sin)).view(x.sizes());
}

Tensor apply_axial_rope(const Tensor& x, const RopeTable& by) {
  const Tensor axes = x.reshape({x.size(0), -1, x.size(2) / 2});  // [P, A * 2, D/2]
  return RotateFunction::apply(axes, by.cos, by.sin).view(x.sizes());
}

}  // namespace bezel::nn
