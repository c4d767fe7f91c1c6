#include "bezel/train/saturation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "bezel/error.h"

namespace bezel::train {
namespace {

// Samples that are looked at for media: each costs the parsing of a line.
constexpr std::size_t kMaxLooked = 500;

bool has_bound(const nn::Clip& clip) {
  return std::isfinite(clip.input_min) || std::isfinite(clip.input_max) || std::isfinite(clip.output_min) ||
         std::isfinite(clip.output_max);
}

std::vector<std::pair<std::string, const nn::LinearImpl*>> bounded_layers(const gemma4::Model& model) {
  std::vector<std::pair<std::string, const nn::LinearImpl*>> out;
  for (const auto& item : model->named_modules("", /*include_self=*/false))
    if (const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get());
        linear != nullptr && linear->clip && has_bound(*linear->clip))
      out.emplace_back(item.key(), linear);
  return out;
}

}  // namespace

std::vector<LayerSaturation> measure_saturation(gemma4::Model& model, const data::Dataset& data, torch::Device device,
                                                std::int64_t num_samples) {
  const at::NoGradGuard no_grad;
  const auto layers = bounded_layers(model);
  if (layers.empty()) return {};
  const nn::ClipCounting counting;
  const bool was_training = model->is_training();
  model->eval();
  std::int64_t images = num_samples, recordings = num_samples;
  for (std::size_t i = 0; i < std::min(data.size(), kMaxLooked) && images + recordings > 0; ++i) {
    const data::SampleText text = data.load_text(i);
    const bool wants_image = images > 0 && !text.images.empty();
    const bool wants_recording = recordings > 0 && !text.audios.empty();
    if (!wants_image && !wants_recording) continue;
    try {
      const std::vector<data::Sample> samples = {data.load(i)};
      const data::Batch batch = data::collate(samples, 0).to(device);
      if (wants_image) model->image_features(batch);
      if (wants_recording) model->audio_features(batch);
    } catch (const Error& error) {
      if (!data.options().skip_bad_samples || error.kind() != ErrorKind::kData) throw;
      continue;
    }
    images -= wants_image;
    recordings -= wants_recording;
  }
  if (was_training) model->train();
  std::vector<LayerSaturation> out;
  for (const auto& [name, layer] : layers)
    if (const auto found = counting.counts().find(layer); found != counting.counts().end())
      out.push_back({name, found->second});
  return out;
}

}  // namespace bezel::train
