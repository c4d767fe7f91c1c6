#include "bezel/nn/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/error.h"

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
  double scale = 0.0;
  bool needs_graph = false;  // someone will ask for a gradient
};

// True where clamp's gradient is 1: inside the bounds, and at a bound itself.
Tensor inside(const Tensor& x, double min, double max) { return (x >= min).bitwise_and_(x <= max); }

Tensor clamped_input(const Tensor& x, const Frozen& frozen) {
  return frozen.clip ? at::clamp(x, frozen.clip->input_min, frozen.clip->input_max) : x;
}

// What enters A: the clamped input in float32, with the dropout of this call.
Tensor adapter_input(const Tensor& x_clamped, const Tensor& keep) {
  const Tensor wide = x_clamped.to(torch::kFloat);
  return keep.defined() ? wide * keep : wide;
}

/// The whole layer on rows: x [N, in], a [r, in], b [out, r] (both undefined without adapter), keep [N, in] or
/// undefined. Saves x (shared with whoever else keeps it), the small product x Aᵀ, and where clipped one bool for each
/// output. Never a gradient of W, never a float32 copy of x.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& lora_a,
                        const std::optional<Tensor>& lora_b, const c10::intrusive_ptr<Frozen>& frozen) {
    const Tensor a = lora_a.value_or(Tensor()), b = lora_b.value_or(Tensor());
    const Tensor x_clamped = clamped_input(x, *frozen);  // [N, in]
    Tensor y = frozen->weight->matmul(x_clamped);        // [N, out]
    if (frozen->bias.defined()) y.add_(frozen->bias);
    Tensor h;  // [N, r]
    if (a.defined()) {
      h = at::mm(adapter_input(x_clamped, frozen->keep), a.t());
      y = at::addmm(y.to(torch::kFloat), h, b.t(), 1.0, frozen->scale).to(x.scalar_type());
    }
    Tensor passes;  // bool [N, out]
    if (frozen->clip) {
      if (frozen->needs_graph) passes = inside(y, frozen->clip->output_min, frozen->clip->output_max);
      y = at::clamp(y, frozen->clip->output_min, frozen->clip->output_max);
    }
    const bool needs_x = a.defined() || frozen->clip;
    context->save_for_backward({needs_x ? x : Tensor(), a, b, h, passes});
    context->saved_data["frozen"] = c10::IValue::make_capsule(frozen);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &a = saved[1], &b = saved[2], &h = saved[3], &passes = saved[4];
    const auto frozen = c10::static_intrusive_pointer_cast<Frozen>(context->saved_data["frozen"].toCapsule());
    Tensor dy = grads[0].contiguous();  // [N, out]
    if (passes.defined()) dy = dy.mul(passes);
    const bool needs_dx = context->needs_input_grad(0);
    Tensor dx, da, db;
    if (needs_dx) dx = frozen->weight->matmul_transposed(dy);  // [N, in]
    if (a.defined()) {
      const Tensor dy_scaled = dy.to(torch::kFloat) * frozen->scale;
      const Tensor dh = at::mm(dy_scaled, b);  // [N, r]
      if (context->needs_input_grad(2)) db = at::mm(dy_scaled.t(), h);
      if (context->needs_input_grad(1)) da = at::mm(dh.t(), adapter_input(clamped_input(x, *frozen), frozen->keep));
      if (needs_dx) {
        Tensor through = at::mm(dh, a);  // [N, in]
        if (frozen->keep.defined()) through.mul_(frozen->keep);
        dx = dx.add_(through.to(dx.scalar_type()));
      }
    }
    if (needs_dx && frozen->clip) dx.mul_(inside(x, frozen->clip->input_min, frozen->clip->input_max));
    return {dx, da, db, Tensor()};
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

Tensor LinearImpl::forward(const Tensor& x) {
  TORCH_CHECK(weight, "this linear layer has no weight yet: load a checkpoint first");
  TORCH_CHECK(x.size(-1) == in_features, "expected [..., ", in_features, "], got ", x.sizes());
  const Tensor rows = x.reshape({-1, in_features});
  auto frozen = c10::make_intrusive<Frozen>();
  frozen->weight = weight;
  frozen->bias = bias;
  frozen->clip = clip;
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
  return LinearFunction::apply(rows, a, b, frozen).view(shape);
}

Tensor frozen_product(const Tensor& x, std::shared_ptr<const quant::Weight> weight) {
  auto frozen = c10::make_intrusive<Frozen>();
  frozen->weight = std::move(weight);
  return LinearFunction::apply(x, std::optional<Tensor>(), std::optional<Tensor>(), frozen);
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
