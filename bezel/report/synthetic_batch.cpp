#include "bezel/report/synthetic_batch.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace bezel::report {
namespace {

using torch::Tensor;

constexpr std::int64_t kWords = 12;
constexpr std::int64_t kLabels = 6;
constexpr std::int64_t kAudioFrames = 12;
constexpr std::int64_t kAudioTokens = 3;  // frames 0 … 11 after two halvings

void add_image(const gemma4::VisionConfig& vision, at::Generator& random, input::RawInputs& raw) {
  const std::int64_t side = vision.pooling_kernel_size, patches = 2 * side * side;  // two soft tokens
  raw.pixel_values = at::rand({1, patches, 3 * vision.patch_size * vision.patch_size}, random);
  const Tensor index = at::arange(patches, at::kLong);
  raw.image_position_ids = at::stack({index.remainder(2 * side), index.div(2 * side, "floor")}, -1).unsqueeze(0);
}

}  // namespace

input::RawInputs synthetic_raw_inputs(const gemma4::ModelConfig& config) {
  at::Generator random = at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{7});
  input::RawInputs raw;
  // Small ids, which stay clear of the placeholders.
  const input::MediaTokenIds& placeholders = config.placeholder_ids;
  std::int64_t bound = config.text.vocab_size;
  for (const std::int64_t id : placeholders.of.values) bound = std::min(bound, id);
  Tensor words = at::randint(3, std::max<std::int64_t>(4, bound), {kWords}, random, at::kLong);
  std::vector<Tensor> ids{words.narrow(0, 0, kWords - kLabels)};
  if (config.vision) {
    add_image(*config.vision, random, raw);
    ids.push_back(at::full({2}, placeholders[input::MediaKind::kImage], at::kLong));
  }
  if (config.audio) {
    const std::int64_t frames = config.is_unified() ? kAudioTokens : kAudioFrames;
    const std::int64_t width = config.is_unified() ? config.audio->hidden_size : gemma4::AudioConfig::kMelBins;
    raw.input_features = at::randn({1, frames, width}, random);
    raw.input_features_mask = at::ones({1, frames}, at::kBool);
    ids.push_back(at::full({kAudioTokens}, placeholders[input::MediaKind::kAudio], at::kLong));
  }
  ids.push_back(words.narrow(0, kWords - kLabels, kLabels));
  raw.input_ids = at::cat(ids).unsqueeze(0);
  raw.labels = at::full(raw.input_ids.sizes(), input::kIgnoreLabel, at::kLong);
  const std::int64_t first = raw.labels.size(1) - kLabels;
  raw.labels.narrow(1, first, kLabels).copy_(raw.input_ids.narrow(1, first, kLabels));
  return raw;
}

input::Batch synthetic_batch(gemma4::Model& model) { return model->make_batch(synthetic_raw_inputs(model->config())); }

}  // namespace bezel::report
