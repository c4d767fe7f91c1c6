#include "bezel/nn/functional.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/gated_conv.h"
#include "bezel/kernels/geglu.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& scale,
                        const std::optional<Tensor>& residual, double eps) {
    const Tensor weight = kernels::norm_weight(x, scale.value_or(Tensor()));
    const kernels::Normed normed = kernels::rms_norm(x, weight, residual.value_or(Tensor()), eps);
    context->save_for_backward({x, weight, normed.inverse});
    context->saved_data["adds"] = residual.has_value();
    return normed.y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    Tensor dx, dweight;
    if (context->needs_input_grad(0)) dx = kernels::rms_norm_backward(saved[0], saved[1], saved[2], grads[0]);
    if (saved[1].defined() && context->needs_input_grad(1)) {
      const std::int64_t width = saved[0].size(-1);
      const Tensor normed = saved[0].to(torch::kFloat).reshape({-1, width}) * saved[2];
      dweight = (normed * grads[0].reshape({-1, width})).sum(0);
    }
    return {dx, dweight, context->saved_data["adds"].toBool() ? grads[0] : Tensor(), Tensor()};
  }
};

class GegluFunction : public torch::autograd::Function<GegluFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    return kernels::geglu(gate, up);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    auto [dgate, dup] = kernels::geglu_backward(saved[0], saved[1], grads[0]);
    return {dgate, dup};
  }
};

class GatedConvFunction : public torch::autograd::Function<GatedConvFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight) {
    context->save_for_backward({x, weight});
    return kernels::gated_conv(x, weight);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    return {kernels::gated_conv_backward(saved[0], saved[1], grads[0]), Tensor()};
  }
};

// Gathers and scatters whose backward pass has a meta kernel; ATen's own backward has none in C++.
class ScatterRows : public torch::autograd::Function<ScatterRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index, const Tensor& rows) {
    context->save_for_backward({index});
    return x.index_copy(0, index, rows);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {Tensor(), Tensor(), gather_rows(grads[0], context->get_saved_variables()[0])};
  }
};

class SegmentSum : public torch::autograd::Function<SegmentSum> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index, std::int64_t num_rows) {
    context->save_for_backward({index});
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape[0] = num_rows;
    return at::zeros(shape, x.options()).index_add(0, index, x);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {gather_rows(grads[0], context->get_saved_variables()[0]), Tensor(), Tensor()};
  }
};

}  // namespace

namespace {

// An undefined tensor is no argument of an autograd function; an empty optional is.
std::optional<Tensor> given(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, const Tensor& residual) {
  return RmsNormFunction::apply(x, given(weight), given(residual), eps);
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor wide = x.to(torch::kFloat);
  const Tensor centred = wide - wide.mean(-1, /*keepdim=*/true);
  const Tensor inverse = at::rsqrt(centred.square().mean(-1, /*keepdim=*/true) + eps);
  return (centred * inverse * weight.to(torch::kFloat)).to(x.scalar_type());
}

Tensor geglu(const Tensor& gate, const Tensor& up) { return GegluFunction::apply(gate, up); }

Tensor gated_conv(const Tensor& x, const Tensor& weight) {
  if (kernels::has_gated_conv(x)) return GatedConvFunction::apply(x, weight);
  return kernels::may_loop(x) || x.is_meta() ? kernels::gated_conv_plain(x, weight)
                                             : kernels::gated_conv_on_device(x, weight);
}

Tensor gather_rows(const Tensor& x, const Tensor& index) {
  if (!x.is_meta()) return x.index_select(0, index);
  // index_select has no shape function in C++; gather has one, but reads an index for every element.
  std::vector<std::int64_t> ones(x.dim(), 1), shape = x.sizes().vec();
  ones[0] = -1;
  shape[0] = index.size(0);
  return x.gather(0, index.view(ones).expand(shape));
}

Tensor scatter_rows(const Tensor& x, const Tensor& index, const Tensor& rows) {
  TORCH_CHECK(!x.requires_grad(), "scatter_rows passes no gradient to the rows it replaces");
  return ScatterRows::apply(x, index, rows);
}

Tensor segment_sum(const Tensor& x, const Tensor& index, std::int64_t num_rows) {
  return SegmentSum::apply(x, index, num_rows);
}

Tensor softcap(const Tensor& x, double cap) {
  if (cap == 0.0) return x;
  kernels::prepare_vector_math();
  return at::tanh(x / cap) * cap;
}

}  // namespace bezel::nn
