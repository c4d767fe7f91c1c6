#include "bezel/nn/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/error.h"
#include "bezel/kernels/geglu.h"
#include "bezel/kernels/low_rank.h"
#include "bezel/kernels/matmul.h"
#include "bezel/nn/clip_counts.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Everything of a call that is no tensor of the graph.
struct Frozen : torch::CustomClassHolder {
  std::shared_ptr<const quant::Weight> weight;
  Tensor bias;
  Tensor keep;  // dropout of this call [N, in]: 0 or 1 / (1 - p); undefined: none
  std::optional<Clip> clip;
  ClipCounts* clip_counts = nullptr;  // only while this call lasts, and only when someone counts
  double scale = 0.0;
  bool needs_graph = false;  // someone will ask for a gradient
};

Tensor clamped_input(const Tensor& x, const Frozen& frozen) {
  return frozen.clip ? at::clamp(x, frozen.clip->input_min, frozen.clip->input_max) : x;
}

// What enters A: the clamped input with the dropout of this call.
Tensor adapter_input(const Tensor& x_clamped, const Tensor& keep) {
  return keep.defined() ? (x_clamped.to(torch::kFloat) * keep).to(x_clamped.scalar_type()) : x_clamped;
}

void count_clipped(const Tensor& x, const Tensor& y, const kernels::LowRank& term, const Frozen& frozen) {
  Tensor open = y.clone();  // what the fused loop clamps as it adds
  kernels::add_low_rank(open, term);
  frozen.clip_counts->add(x, open, *frozen.clip);
}

// What enters the layer: x, or gelu_tanh(x) * up.
Tensor layer_input(const Tensor& x, const Tensor& up) { return up.defined() ? kernels::geglu(x, up) : x; }

/// The whole layer on rows: x [N, in], a [r, in], b [out, r] (both undefined without adapter), keep [N, in] or
/// undefined; with `up` [N, in] the input is gelu_tanh(x) * up. Saves x and up (shared with whoever else keeps them),
/// the small product x Aᵀ, and where clipped one bit for each output. Never a gradient of W, never a float32 copy of x.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& given, const std::optional<Tensor>& lora_a,
                        const std::optional<Tensor>& lora_b, const std::optional<Tensor>& factor,
                        const c10::intrusive_ptr<Frozen>& frozen) {
    const Tensor a = lora_a.value_or(Tensor()), b = lora_b.value_or(Tensor()), up = factor.value_or(Tensor());
    const Tensor x = layer_input(given, up), x_clamped = clamped_input(x, *frozen);  // [N, in]
    Tensor y = frozen->weight->matmul(x_clamped);                                    // [N, out]
    if (frozen->bias.defined()) y.add_(frozen->bias);
    kernels::LowRank term;
    if (a.defined()) {
      term.h = kernels::matmul_nt(adapter_input(x_clamped, frozen->keep), a).to(torch::kFloat).mul_(frozen->scale);
      term.b = b.t().contiguous();  // [r, out]
    }
    if (frozen->clip_counts) count_clipped(x, y, term, *frozen);
    Tensor inside;
    if (frozen->clip)
      inside =
          kernels::clamp_low_rank(y, term, {frozen->clip->output_min, frozen->clip->output_max}, frozen->needs_graph);
    else
      kernels::add_low_rank(y, term);
    const bool needs_x = a.defined() || frozen->clip || up.defined();
    context->save_for_backward({needs_x ? given : Tensor(), a, b, term.h, inside, up});
    context->saved_data["frozen"] = c10::IValue::make_capsule(frozen);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &a = saved[1], &b = saved[2], &h = saved[3], &inside = saved[4], &up = saved[5];
    const Tensor x = layer_input(saved[0], up);
    const auto frozen = c10::static_intrusive_pointer_cast<Frozen>(context->saved_data["frozen"].toCapsule());
    Tensor dy = grads[0].contiguous();  // [N, out]
    if (inside.defined()) dy = kernels::where_inside(dy, inside);
    Tensor dx, da, db;
    kernels::LowRank term;  // what the adapter adds to dx
    if (a.defined()) {
      const Tensor dh = kernels::matmul_nn(dy, b);  // [N, r], without the scale
      if (context->needs_input_grad(2)) db = kernels::matmul_tn(dy, h);
      if (context->needs_input_grad(1))
        da = kernels::matmul_tn(dh, adapter_input(clamped_input(x, *frozen), frozen->keep)).mul_(frozen->scale);
      term = {dh.to(torch::kFloat) * frozen->scale, a};
    }
    if (context->needs_input_grad(0)) dx = input_gradient(x, dy, term, *frozen);
    if (!up.defined() || !dx.defined()) return {dx, da, db, Tensor(), Tensor()};
    auto [dgate, dup] = kernels::geglu_backward(saved[0], up, dx);
    return {dgate, da, db, dup, Tensor()};
  }

 private:
  static Tensor input_gradient(const Tensor& x, const Tensor& dy, kernels::LowRank term, const Frozen& frozen) {
    Tensor dx = frozen.weight->matmul_transposed(dy);  // [N, in]
    if (frozen.keep.defined() && term.h.defined()) {
      // Dropout stands between the clamp and A.
      dx.add_(at::mm(term.h, term.b).mul_(frozen.keep));
      term = {};
    }
    if (frozen.clip)
      kernels::gate_low_rank(dx, term, x, {frozen.clip->input_min, frozen.clip->input_max});
    else
      kernels::add_low_rank(dx, term);
    return dx;
  }
};

Tensor dropout_mask(const Tensor& x, double probability) {
  const auto options = x.options().dtype(torch::kFloat).requires_grad(false);
  return at::empty(x.sizes(), options).bernoulli_(1.0 - probability).div_(1.0 - probability);
}

}  // namespace

LinearImpl::LinearImpl(std::int64_t in_features, std::int64_t out_features, Options options)
    : in_features(in_features), out_features(out_features) {
  expect("weight", {out_features, in_features}, weight, options.quantizable);
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

Tensor LinearImpl::forward(const Tensor& x) { return run(x, std::nullopt); }

Tensor LinearImpl::forward_geglu(const Tensor& gate, const Tensor& up) {
  return run(gate, up.reshape({-1, in_features}));
}

Tensor LinearImpl::run(const Tensor& x, const std::optional<Tensor>& up) {
  TORCH_CHECK(weight, "this linear layer has no weight yet: load a checkpoint first");
  TORCH_CHECK(x.size(-1) == in_features, "expected [..., ", in_features, "], got ", x.sizes());
  const Tensor rows = x.reshape({-1, in_features});
  auto frozen = c10::make_intrusive<Frozen>();
  frozen->weight = weight;
  frozen->bias = bias;
  frozen->clip = clip;
  if (ClipCounting* counting = ClipCounting::current(); counting && clip) frozen->clip_counts = &counting->of(this);
  std::optional<Tensor> a, b;
  if (adapter) {
    a = adapter->a;
    b = adapter->b;
    frozen->scale = adapter->scale;
    if (adapter->dropout > 0 && is_training()) frozen->keep = dropout_mask(rows, adapter->dropout);
  }
  frozen->needs_graph = torch::GradMode::is_enabled() && (rows.requires_grad() || adapter);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = out_features;
  return LinearFunction::apply(rows, a, b, up, frozen).view(shape);
}

Tensor frozen_product(const Tensor& x, std::shared_ptr<const quant::Weight> weight) {
  auto frozen = c10::make_intrusive<Frozen>();
  frozen->weight = std::move(weight);
  const std::optional<Tensor> none;
  return LinearFunction::apply(x, none, none, none, frozen);
}

std::vector<Tensor> adapter_tensors(const torch::nn::Module& module) {
  std::vector<Tensor> tensors;
  for (const auto& child : module.modules(/*include_self=*/true)) {
    const auto* linear = dynamic_cast<const LinearImpl*>(child.get());
    if (linear != nullptr && linear->adapter) tensors.insert(tensors.end(), {linear->adapter->a, linear->adapter->b});
  }
  return tensors;
}

}  // namespace bezel::nn
