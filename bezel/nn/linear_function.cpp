#include "bezel/nn/linear_function.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What the backward pass needs, and its order in the list that autograd keeps.
struct Saved {
  variable_list sources;   // what the input is made from; undefined where no gradient needs them
  Tensor inverse;          // of the norm that made the input; what else is made on the way is not kept
  Tensor h;                // [N, R], see LowRankTerms
  variable_list inside;    // of each layer, see kernels::clamp_low_rank
  variable_list products;  // of each layer of DoRA: W x' + scale * B A x' [N, out]
  variable_list adapters;

  variable_list pack() && {
    variable_list list = std::move(sources);
    list.insert(list.end(), {inverse, h});
    list.insert(list.end(), inside.begin(), inside.end());
    list.insert(list.end(), products.begin(), products.end());
    list.insert(list.end(), adapters.begin(), adapters.end());
    return list;
  }

  static Saved unpack(const variable_list& list, const LinearCall& call) {
    const auto adapters = list.end() - static_cast<std::ptrdiff_t>(call.terms.num_tensors());
    const auto products = adapters - static_cast<std::ptrdiff_t>(call.layers.size());
    const auto inside = products - static_cast<std::ptrdiff_t>(call.layers.size());
    const auto scalars = inside - 2;
    return {.sources = {list.begin(), scalars},
            .inverse = scalars[0],
            .h = scalars[1],
            .inside = {inside, products},
            .products = {products, adapters},
            .adapters = {adapters, list.end()}};
  }
};

void count_clipped(const Tensor& x, const Tensor& y, const kernels::LowRank& term, const FrozenLayer& layer) {
  Tensor open = y.clone();  // y before the output clamp
  kernels::add_low_rank(open, term);
  layer.clip_counts->add(x, open, *layer.clip);
}

// A layer's input, and what enters A.
struct Inputs {
  Tensor given, clamped, dropped;
};

// What DoRA makes of W x, without the bias; `product` gets what s multiplies.
Tensor dora_output(const Tensor& base, const Inputs& x, const kernels::LowRank& term, const FrozenLayer& layer,
                   const Tensor& factor, Tensor& product) {
  const bool drops = !x.dropped.is_same(x.clamped);
  const Tensor read = drops ? layer.weight->matmul(x.dropped) : base;
  const Tensor sum = at::addmm(read.to(torch::kFloat), term.h.to(torch::kFloat), term.b.to(torch::kFloat));
  const Tensor y = drops ? base.to(torch::kFloat) - read + sum * factor : sum * factor;
  product = sum.to(base.scalar_type());
  return y.to(base.scalar_type());
}

Tensor output(const Inputs& in, kernels::LowRank term, const FrozenLayer& layer, const Tensor& factor, Tensor& product,
              Tensor* inside) {
  const Tensor& x = in.given;
  Tensor y = layer.weight->matmul(in.clamped);  // [N, out]
  if (factor.defined()) {
    y = dora_output(y, in, term, layer, factor, product);
    term = {};
  }
  if (layer.bias.defined()) y.add_(layer.bias);
  if (layer.clip_counts) count_clipped(x, y, term, layer);
  if (!layer.clip) {
    kernels::add_low_rank(y, term);
    return y;
  }
  const Tensor kept =
      kernels::clamp_low_rank(y, term, {layer.clip->output_min, layer.clip->output_max}, inside != nullptr);
  if (inside != nullptr) *inside = kept;
  return y;
}

// Adds what the adapters add to dx, then sets it to zero where the input clamp is active. `dropped` is a gradient that
// goes through the dropout too; undefined: no dropout.
Tensor gated(const LinearCall& call, kernels::LowRank term, const Tensor& dropped, const Tensor& x,
             const Tensor& x_clamped, Tensor dx) {
  if (call.keep.defined() && term.h.defined()) {
    // Dropout is between the clamp and A.
    const Tensor b = term.b.to(dx.scalar_type()).to(torch::kFloat);
    Tensor inner = at::mm(term.h.to(torch::kFloat), b);
    if (dropped.defined()) inner.add_(dropped);
    dx.add_(call.kept(inner));
    term = {};
  }
  if (call.clip())
    kernels::gate_low_rank(dx, term, x, {call.clip()->input_min, call.clip()->input_max}, x_clamped);
  else
    kernels::add_low_rank(dx, term);
  return dx;
}

bool any_needed(const AutogradContext& context, std::size_t begin, std::size_t end) {
  bool any = false;
  for (std::size_t i = begin; i < end; ++i) any = any || context.needs_input_grad(i);
  return any;
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList sources, at::TensorList adapters,
                               const c10::intrusive_ptr<LinearCall>& call) {
    const FusedInput::Made x = call->input.make(sources.vec());
    const Tensor x_clamped = call->clamped(x.rows);
    const bool keeps_sources = !call->terms.empty() || call->clip() || call->input.is_made();
    Saved saved{.sources = keeps_sources ? sources.vec() : variable_list(sources.size()),
                .inverse = sources.size() == 1 ? x.inverse : Tensor(),
                .h = {},
                .inside = variable_list(call->layers.size()),
                .products = variable_list(call->layers.size()),
                .adapters = adapters.vec()};
    const Inputs in{x.rows, x_clamped, call->terms.empty() ? x_clamped : call->adapter_input(x_clamped)};
    if (!call->terms.empty()) saved.h = call->terms.project(in.dropped, saved.adapters);
    variable_list outputs;
    for (std::size_t i = 0; i < call->layers.size(); ++i) {
      const kernels::LowRank term = call->terms.output_term(i, saved.h, saved.adapters);
      const Tensor factor = call->terms.is_dora(i) ? call->terms.factor(i, saved.adapters) : Tensor();
      outputs.push_back(
          output(in, term, call->layers[i], factor, saved.products[i], call->needs_graph ? &saved.inside[i] : nullptr));
    }
    if (!call->needs_graph) saved.products.assign(call->layers.size(), {});
    context->save_for_backward(std::move(saved).pack());
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<LinearCall>(context->saved_data["call"].toCapsule());
    const Saved saved = Saved::unpack(context->get_saved_variables(), *call);
    const std::size_t num_sources = saved.sources.size(), num_adapters = saved.adapters.size();
    const bool wants_input = any_needed(*context, 0, num_sources);
    const bool wants_adapters = any_needed(*context, num_sources, num_sources + num_adapters);
    FusedInput::Made x{.rows = {}, .inverse = saved.inverse};
    Tensor x_clamped, dx, dx_dropped;
    if (wants_adapters || (wants_input && call->clip())) x = call->input.make(saved.sources);
    if (wants_adapters) x_clamped = call->clamped(x.rows);
    variable_list dh, d_adapters(num_adapters);
    // From the last layer to the first, as a graph of separate layers would add them up.
    for (std::size_t i = call->layers.size(); i-- > 0;) {
      const Tensor given = grads[i].contiguous();
      Tensor dy = saved.inside[i].defined() ? kernels::where_inside(given, saved.inside[i]) : given;
      Tensor direct = dy;  // what W's product with the input gets
      if (call->terms.is_dora(i)) {
        const Tensor factor = call->terms.factor(i, saved.adapters);
        if (wants_adapters) call->terms.backward_factor(i, dy, saved.products[i], d_adapters);
        if (call->keep.defined() && wants_input)
          dx_dropped = call->layers[i].weight->matmul_transposed((direct * (factor - 1)).to(direct.scalar_type()));
        dy = (dy * factor).to(direct.scalar_type());
        if (!call->keep.defined()) direct = dy;
      }
      call->terms.backward_output(i, dy, saved.h, saved.adapters, wants_adapters, dh, d_adapters);
      if (!wants_input) continue;
      const Tensor part = call->layers[i].weight->matmul_transposed(direct);  // [N, in]
      dx = dx.defined() ? dx.add_(part) : part;
    }
    if (wants_adapters) call->terms.backward_project(dh, call->adapter_input(x_clamped), d_adapters);
    variable_list result(num_sources);
    if (wants_input)
      result = call->input.gradients(
          saved.sources, x.inverse,
          gated(*call, call->terms.input_term(dh, saved.adapters), dx_dropped, x.rows, x_clamped, dx));
    result.insert(result.end(), d_adapters.begin(), d_adapters.end());
    result.emplace_back();  // the call
    return result;
  }
};

}  // namespace

Tensor LinearCall::clamped(const Tensor& x) const {
  return clip() ? at::clamp(x, clip()->input_min, clip()->input_max) : x;
}

Tensor LinearCall::adapter_input(const Tensor& x_clamped) const {
  return keep.defined() ? kept(x_clamped.to(torch::kFloat, false, true)).to(x_clamped.scalar_type()) : x_clamped;
}

std::vector<Tensor> linear_function(const std::vector<Tensor>& sources, const std::vector<Tensor>& adapters,
                                    const c10::intrusive_ptr<LinearCall>& call) {
  return LinearFunction::apply(at::TensorList(sources), at::TensorList(adapters), call);
}

}  // namespace bezel::nn
