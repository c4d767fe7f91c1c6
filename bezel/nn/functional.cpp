#include "bezel/nn/functional.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/vector_math.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& scale, double eps) {
    const Tensor weight = scale.value_or(Tensor());
    const Tensor wide = x.to(torch::kFloat);
    // pow(-0.5) rather than rsqrt: the reference rounds that way.
    const Tensor inverse = at::pow(wide.square().mean(-1, /*keepdim=*/true) + eps, -0.5);
    context->save_for_backward({x, weight, inverse});
    Tensor y = wide * inverse;
    if (weight.defined()) y.mul_(weight.to(torch::kFloat));
    return y.to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
    Tensor dy = grads[0].to(torch::kFloat);
    if (weight.defined()) dy = dy * weight.to(torch::kFloat);
    const Tensor normed = x.to(torch::kFloat) * inverse;
    const Tensor along = (dy * normed).mean(-1, /*keepdim=*/true);
    return {(dy - normed * along).mul_(inverse).to(x.scalar_type()), Tensor(), Tensor()};
  }
};

class GegluFunction : public torch::autograd::Function<GegluFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    return at::gelu(gate, "tanh").mul_(up);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], &dy = grads[0];
    return {at::gelu_backward(dy * up, gate, "tanh"), dy * at::gelu(gate, "tanh")};
  }
};

// Row movements whose backward pass has a shape function too; ATen's own backward of them has none in C++.
class PlaceRows : public torch::autograd::Function<PlaceRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index, const Tensor& rows) {
    context->save_for_backward({index});
    return x.index_copy(0, index, rows);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {Tensor(), Tensor(), take_rows(grads[0], context->get_saved_variables()[0])};
  }
};

class SumRows : public torch::autograd::Function<SumRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index, std::int64_t num_rows) {
    context->save_for_backward({index});
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape[0] = num_rows;
    return at::zeros(shape, x.options()).index_add(0, index, x);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {take_rows(grads[0], context->get_saved_variables()[0]), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  // An undefined tensor is no argument of an autograd function; an empty optional is.
  return RmsNormFunction::apply(x, weight.defined() ? std::optional<Tensor>(weight) : std::nullopt, eps);
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor wide = x.to(torch::kFloat);
  const Tensor centred = wide - wide.mean(-1, /*keepdim=*/true);
  const Tensor inverse = at::rsqrt(centred.square().mean(-1, /*keepdim=*/true) + eps);
  return (centred * inverse * weight.to(torch::kFloat)).to(x.scalar_type());
}

Tensor geglu(const Tensor& gate, const Tensor& up) { return GegluFunction::apply(gate, up); }

Tensor take_rows(const Tensor& x, const Tensor& index) {
  if (!x.is_meta()) return x.index_select(0, index);
  // index_select has no shape function in C++; gather has one, but reads an index for every element.
  std::vector<std::int64_t> ones(x.dim(), 1), shape = x.sizes().vec();
  ones[0] = -1;
  shape[0] = index.size(0);
  return x.gather(0, index.view(ones).expand(shape));
}

Tensor place_rows(const Tensor& x, const Tensor& index, const Tensor& rows) {
  TORCH_CHECK(!x.requires_grad(), "place_rows passes no gradient to the rows it replaces");
  return PlaceRows::apply(x, index, rows);
}

Tensor sum_rows(const Tensor& x, const Tensor& index, std::int64_t num_rows) {
  return SumRows::apply(x, index, num_rows);
}

Tensor softcap(const Tensor& x, double cap) {
  if (cap == 0.0) return x;
  kernels::prepare_vector_math();
  return at::tanh(x / cap) * cap;
}

}  // namespace bezel::nn
