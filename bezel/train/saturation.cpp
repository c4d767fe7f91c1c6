#include "bezel/train/saturation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "bezel/nn/weight_site.h"

namespace bezel::train {
namespace {

bool has_bound(const nn::Clip& clip) {
  return std::isfinite(clip.input_min) || std::isfinite(clip.input_max) || std::isfinite(clip.output_min) ||
         std::isfinite(clip.output_max);
}

struct BoundedLayers {
  std::vector<std::string> names;
  std::vector<nn::LinearImpl*> layers;
};

BoundedLayers bounded_layers(const gemma4::Model& model) {
  BoundedLayers out;
  for (const nn::WeightSite& site : nn::linear_sites(*model)) {
    if (!site.layer->clip || !has_bound(*site.layer->clip)) continue;
    out.names.push_back(site.module);
    out.layers.push_back(site.layer);
  }
  return out;
}

}  // namespace

std::vector<LayerSaturation> measure_saturation(gemma4::Model& model, const NextMediaSample& next_sample,
                                                torch::Device device, const gemma4::PhaseObserver& observer,
                                                std::int64_t num_samples) {
  const at::NoGradGuard no_grad;
  const auto [names, layers] = bounded_layers(model);
  if (layers.empty()) return {};
  const nn::ClipObserver clips(layers);
  const bool was_training = model->is_training();
  model->eval();
  input::PerKind<std::int64_t> samples;  // measured so far
  input::PerKind<bool> wanted;
  std::ranges::fill(wanted.values, num_samples > 0);
  while (wanted != input::PerKind<bool>{}) {
    std::optional<data::Batch> sample = next_sample(wanted);
    if (!sample) break;
    std::erase_if(sample->media, [&](const input::Media& media) { return !wanted[media.kind]; });
    model->encode(sample->to(device), observer);
    const input::PerKind<bool> seen = sample->kinds();
    for (const input::MediaKind kind : input::kMediaKinds) samples[input::encoder_kind(kind)] += seen[kind];
    for (const input::MediaKind kind : input::kMediaKinds)
      wanted[kind] = samples[input::encoder_kind(kind)] < num_samples;
  }
  if (was_training) model->train();
  std::vector<LayerSaturation> out;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (const nn::ClipCounts& counts = clips.of(layers[i]); counts.inputs > 0) out.push_back({names[i], counts});
  return out;
}

}  // namespace bezel::train
