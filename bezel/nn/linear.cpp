#include "bezel/nn/linear.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/error.h"
#include "bezel/kernels/low_rank.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/narrow_product.h"
#include "bezel/nn/clip_counts.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One layer of a call, apart from the tensors of the graph.
struct FrozenLayer {
  std::shared_ptr<const quant::Weight> weight;
  Tensor bias;
  std::optional<Clip> clip;
  ClipCounts* clip_counts = nullptr;  // only while this call lasts, and only when someone counts
  std::int64_t rank = 0;              // of its adapter; 0: none
  double scale = 0.0;
};

// Everything of a call that is no tensor of the graph. All layers clamp the input alike.
struct Call : torch::CustomClassHolder {
  LayerInput input;
  std::vector<FrozenLayer> layers;
  Tensor keep;               // dropout of a single layer: bool [N, in]; undefined: none
  double keep_scale = 1.0;   // 1 / (1 - p)
  bool needs_graph = false;  // someone will ask for a gradient

  bool adapted() const {
    return std::ranges::any_of(layers, [](const FrozenLayer& layer) { return layer.rank > 0; });
  }
  const std::optional<Clip>& clip() const { return layers[0].clip; }
  Tensor clamped(const Tensor& x) const { return clip() ? at::clamp(x, clip()->input_min, clip()->input_max) : x; }
  // float32 values where they are kept, in place.
  Tensor kept(Tensor values) const { return values.mul_(keep_scale).mul_(keep); }
  // What enters A: the clamped input with the dropout of this call.
  Tensor adapter_input(const Tensor& x_clamped) const {
    return keep.defined() ? kept(x_clamped.to(torch::kFloat, false, true)).to(x_clamped.scalar_type()) : x_clamped;
  }
};

// The adapters' tensors of a call: A and B of each adapted layer in turn.
Tensor stacked_a(const variable_list& adapters) {
  if (adapters.size() <= 2) return adapters.empty() ? Tensor() : adapters[0];
  variable_list parts;
  for (std::size_t i = 0; i < adapters.size(); i += 2) parts.push_back(adapters[i]);
  return at::cat(parts);
}

// x · aᵀ and x · b for factors as narrow as a rank. Only adapters' go this way: frozen matrices are multiplied alike in
// every storage.
Tensor rank_nt(const Tensor& x, const Tensor& a) {
  return kernels::has_narrow_product(x, a.size(0)) ? kernels::narrow_product(x, a.t()) : kernels::matmul_nt(x, a);
}
Tensor rank_nn(const Tensor& x, const Tensor& b) {
  return kernels::has_narrow_product(x, b.size(1)) ? kernels::narrow_product(x, b) : kernels::matmul_nn(x, b);
}

void count_clipped(const Tensor& x, const Tensor& y, const kernels::LowRank& term, const FrozenLayer& layer) {
  Tensor open = y.clone();  // what the fused loop clamps as it adds
  kernels::add_low_rank(open, term);
  layer.clip_counts->add(x, open, *layer.clip);
}

/// Whole layers on rows of one input [N, in]. Saves what the input is made from (shared with whoever else keeps it),
/// the small product with all As, and where clipped one bit for each output. Never a gradient of W, never a float32
/// copy of the input.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList sources, at::TensorList adapters,
                               const c10::intrusive_ptr<Call>& call) {
    const LayerInput::Made x = call->input.make(sources.vec());
    const Tensor x_clamped = call->clamped(x.rows);
    Tensor h;  // x Aᵀ [N, ranks of all]
    if (call->adapted()) h = rank_nt(call->adapter_input(x_clamped), stacked_a(adapters.vec()));
    const bool keeps_sources = call->adapted() || call->clip() || call->input.is_made();
    variable_list outputs, saved = keeps_sources ? sources.vec() : variable_list(sources.size());
    saved.insert(saved.end(), {x.inverse, h});
    std::int64_t first = 0, adapter = 0;
    for (const FrozenLayer& layer : call->layers) {
      kernels::LowRank term;
      if (layer.rank > 0) term = {scaled(h, first, layer), adapters[2 * adapter++ + 1].t()};
      first += layer.rank;
      Tensor inside;
      outputs.push_back(output(x.rows, x_clamped, term, layer, call->needs_graph, inside));
      saved.push_back(inside);
    }
    saved.insert(saved.end(), adapters.begin(), adapters.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const std::size_t num_sources = saved.size() - 2 - call->layers.size() - 2 * num_adapted(*call);
    const variable_list sources(saved.begin(), saved.begin() + num_sources);
    const Tensor &inverse = saved[num_sources], &h = saved[num_sources + 1];
    const variable_list adapters(saved.end() - 2 * num_adapted(*call), saved.end());
    const bool wants_input = any_needed(*context, 0, num_sources);
    const bool wants_adapters = any_needed(*context, num_sources, num_sources + adapters.size());
    Tensor x, dx;
    if (wants_adapters || (wants_input && call->clip())) x = call->input.make(sources).rows;
    variable_list dh, d_adapters(adapters.size());
    // From the last layer to the first, as a graph of separate layers would add them up.
    std::int64_t first = h.defined() ? h.size(1) : 0, adapter = num_adapted(*call);
    for (std::size_t i = call->layers.size(); i-- > 0;) {
      const FrozenLayer& layer = call->layers[i];
      const Tensor& inside = saved[num_sources + 2 + i];
      const Tensor dy = inside.defined() ? kernels::where_inside(grads[i].contiguous(), inside) : grads[i].contiguous();
      if (layer.rank > 0) {
        first -= layer.rank;
        const std::int64_t b = 2 * --adapter + 1;
        dh.insert(dh.begin(), rank_nn(dy, adapters[b]));  // [N, r], without the scale
        if (wants_adapters) d_adapters[b] = kernels::matmul_tn(dy, scaled(h, first, layer));
      }
      if (!wants_input) continue;
      const Tensor part = layer.weight->matmul_transposed(dy);  // [N, in]
      dx = dx.defined() ? dx.add_(part) : part;
    }
    if (wants_adapters) set_a_gradients(*call, dh, x, d_adapters);
    variable_list result(num_sources);
    if (wants_input) result = call->input.gradients(sources, inverse, gated(*call, x, dx, dh, adapters));
    result.insert(result.end(), d_adapters.begin(), d_adapters.end());
    result.emplace_back();  // the call
    return result;
  }

 private:
  static std::int64_t num_adapted(const Call& call) {
    return std::ranges::count_if(call.layers, [](const FrozenLayer& layer) { return layer.rank > 0; });
  }
  static bool any_needed(const AutogradContext& context, std::size_t begin, std::size_t end) {
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) any = any || context.needs_input_grad(i);
    return any;
  }
  static Tensor scaled(const Tensor& h, std::int64_t first, const FrozenLayer& layer) {
    return h.narrow(1, first, layer.rank).mul(layer.scale);
  }

  static Tensor output(const Tensor& x, const Tensor& x_clamped, const kernels::LowRank& term, const FrozenLayer& layer,
                       bool needs_graph, Tensor& inside) {
    Tensor y = layer.weight->matmul(x_clamped);  // [N, out]
    if (layer.bias.defined()) y.add_(layer.bias);
    if (layer.clip_counts) count_clipped(x, y, term, layer);
    if (layer.clip)
      inside = kernels::clamp_low_rank(y, term, {layer.clip->output_min, layer.clip->output_max}, needs_graph);
    else
      kernels::add_low_rank(y, term);
    return y;
  }

  static void set_a_gradients(const Call& call, const variable_list& dh, const Tensor& x, variable_list& d_adapters) {
    const Tensor da = kernels::matmul_tn(dh.size() == 1 ? dh[0] : at::cat(dh, 1), call.adapter_input(call.clamped(x)));
    std::int64_t first = 0;
    std::size_t at = 0;
    for (const FrozenLayer& layer : call.layers) {
      if (layer.rank == 0) continue;
      d_adapters[at] = da.narrow(0, first, layer.rank).mul_(layer.scale);
      at += 2;
      first += layer.rank;
    }
  }

  // What the adapters add to dx, then zero where the clamp of the input held.
  static Tensor gated(const Call& call, const Tensor& x, Tensor dx, const variable_list& dh,
                      const variable_list& adapters) {
    kernels::LowRank term;
    if (!dh.empty()) {
      variable_list parts;
      std::size_t i = 0;
      for (const FrozenLayer& layer : call.layers)
        if (layer.rank > 0) parts.push_back(dh[i++] * layer.scale);
      term = {parts.size() == 1 ? parts[0] : at::cat(parts, 1), stacked_a(adapters)};
    }
    if (call.keep.defined() && term.h.defined()) {
      // Dropout stands between the clamp and A.
      const Tensor b = term.b.to(dx.scalar_type()).to(torch::kFloat);
      dx.add_(call.kept(at::mm(term.h.to(torch::kFloat), b)));
      term = {};
    }
    if (call.clip())
      kernels::gate_low_rank(dx, term, x, {call.clip()->input_min, call.clip()->input_max});
    else
      kernels::add_low_rank(dx, term);
    return dx;
  }
};

Tensor dropout_mask(const Tensor& x, double probability) {
  return at::empty(x.sizes(), x.options().dtype(torch::kBool).requires_grad(false)).bernoulli_(1.0 - probability);
}

bool drops_out(const LinearImpl& layer) { return layer.adapter && layer.adapter->dropout > 0 && layer.is_training(); }

bool clamp_inputs_alike(const LinearImpl& a, const LinearImpl& b) {
  if (!a.clip || !b.clip) return a.clip.has_value() == b.clip.has_value();
  return a.clip->input_min == b.clip->input_min && a.clip->input_max == b.clip->input_max;
}

// In float32 a product with all As at once may be summed in another order, and a clamp may hang on the last bit.
bool goes_together(const Tensor& x, const std::vector<LinearImpl*>& layers) {
  return x.scalar_type() == torch::kBFloat16 && std::ranges::all_of(layers, [&](const LinearImpl* layer) {
           return !drops_out(*layer) && clamp_inputs_alike(*layer, *layers[0]);
         });
}

FrozenLayer frozen_part(const LinearImpl& layer) {
  TORCH_CHECK(layer.weight, "this linear layer has no weight yet: load a checkpoint first");
  FrozenLayer frozen{.weight = layer.weight, .bias = layer.bias, .clip = layer.clip};
  if (ClipCounting* counting = ClipCounting::current(); counting && layer.clip)
    frozen.clip_counts = &counting->of(&layer);
  if (layer.adapter) {
    frozen.rank = layer.adapter->a.size(0);
    frozen.scale = layer.adapter->scale;
  }
  return frozen;
}

std::vector<Tensor> run(const LayerInput& x, const std::vector<LinearImpl*>& layers) {
  std::vector<Tensor> sources, adapters;
  for (const Tensor& source : x.sources()) {
    TORCH_CHECK(source.size(-1) == layers[0]->in_features, "expected [..., ", layers[0]->in_features, "], got ",
                source.sizes());
    sources.push_back(source.reshape({-1, source.size(-1)}));
  }
  auto call = c10::make_intrusive<Call>();
  call->input = x.without_sources();
  for (const LinearImpl* layer : layers) {
    call->layers.push_back(frozen_part(*layer));
    if (layer->adapter) adapters.insert(adapters.end(), {layer->adapter->a, layer->adapter->b});
  }
  if (drops_out(*layers[0])) {
    call->keep = dropout_mask(sources[0], layers[0]->adapter->dropout);
    call->keep_scale = 1.0 / (1.0 - layers[0]->adapter->dropout);
  }
  const auto wants_gradient = [](const Tensor& source) { return source.requires_grad(); };
  call->needs_graph =
      torch::GradMode::is_enabled() && (std::ranges::any_of(sources, wants_gradient) || !adapters.empty());
  std::vector<Tensor> outputs = LinearFunction::apply(at::TensorList(sources), at::TensorList(adapters), call);
  std::vector<std::int64_t> shape = x.sources()[0].sizes().vec();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    shape.back() = layers[i]->out_features;
    outputs[i] = outputs[i].view(shape);
  }
  return outputs;
}

}  // namespace

LinearImpl::LinearImpl(std::int64_t in_features, std::int64_t out_features, Options options)
    : in_features(in_features), out_features(out_features) {
  expect("weight", {out_features, in_features}, weight, options.role, options.quantizable);
  if (options.bias) expect("bias", {out_features}, bias);
  if (!options.clipped) return;
  clip.emplace();
  const auto bound = [this](const char* name, double Clip::*member) {
    add_slot({name,
              {},
              SlotKind::kClipBound,
              [this, member](Tensor tensor) { (*clip).*member = tensor.item<double>(); },
              nullptr,
              false});
  };
  bound("input_min", &Clip::input_min);
  bound("input_max", &Clip::input_max);
  bound("output_min", &Clip::output_min);
  bound("output_max", &Clip::output_max);
}

Tensor LinearImpl::forward(const LayerInput& x) { return run(x, {this})[0]; }

std::vector<Tensor> project(const LayerInput& x, const std::vector<Linear>& layers) {
  std::vector<LinearImpl*> found;
  for (const Linear& layer : layers) found.push_back(layer.ptr().get());
  if (goes_together(x.sources()[0], found)) return run(x, found);
  const Tensor value = x.value();
  std::vector<Tensor> outputs;
  for (LinearImpl* layer : found) outputs.push_back(layer->forward(value));
  return outputs;
}

Tensor frozen_product(const Tensor& x, std::shared_ptr<const quant::Weight> weight) {
  auto call = c10::make_intrusive<Call>();
  call->layers.emplace_back().weight = std::move(weight);
  return LinearFunction::apply(at::TensorList(x), at::TensorList(), call)[0];
}

}  // namespace bezel::nn
