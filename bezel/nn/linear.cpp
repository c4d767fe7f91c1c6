#include "bezel/nn/linear.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/nn/dora.h"
#include "bezel/nn/linear_function.h"
#include "bezel/nn/random_keys.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

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
  return {.weight = layer.weight, .bias = layer.bias, .clip = layer.clip, .clip_counts = layer.clip_counts};
}

// Of DoRA; undefined for other layers.
Tensor norms_of(LinearImpl& layer) {
  if (!layer.adapter || !layer.adapter->magnitude.defined()) return {};
  return effective_norms(*layer.adapter, *layer.weight);
}

std::vector<Tensor> run(const FusedInput& x, const std::vector<LinearImpl*>& layers) {
  std::vector<Tensor> sources, adapters;
  for (const Tensor& source : x.sources()) {
    TORCH_CHECK(source.size(-1) == layers[0]->in_features, "expected [..., ", layers[0]->in_features, "], got ",
                source.sizes());
    sources.push_back(source.reshape({-1, source.size(-1)}));
  }
  auto call = c10::make_intrusive<LinearCall>();
  call->input = x.without_sources();
  for (LinearImpl* layer : layers) {
    const Adapter* adapter = layer->adapter ? &*layer->adapter : nullptr;
    call->layers.push_back(frozen_part(*layer));
    call->terms.add(adapter, norms_of(*layer));
    LowRankTerms::append_tensors(adapter, adapters);
  }
  if (drops_out(*layers[0])) {
    call->keep = dropout_mask(layers[0]->adapter->site, sources[0].size(0), sources[0].size(1),
                              layers[0]->adapter->dropout, sources[0].device());
    call->keep_scale = 1.0 / (1.0 - layers[0]->adapter->dropout);
  }
  const auto wants_gradient = [](const Tensor& source) { return source.requires_grad(); };
  call->needs_graph =
      torch::GradMode::is_enabled() && (std::ranges::any_of(sources, wants_gradient) || !adapters.empty());
  std::vector<Tensor> outputs = linear_function(sources, adapters, call);
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

Tensor LinearImpl::forward(const FusedInput& x) { return run(x, {this})[0]; }

std::vector<Tensor> project(const FusedInput& x, const std::vector<Linear>& layers) {
  std::vector<LinearImpl*> found;
  for (const Linear& layer : layers) found.push_back(layer.ptr().get());
  if (goes_together(x.sources()[0], found)) return run(x, found);
  const Tensor value = x.value();
  std::vector<Tensor> outputs;
  for (LinearImpl* layer : found) outputs.push_back(layer->forward(value));
  return outputs;
}

}  // namespace bezel::nn
