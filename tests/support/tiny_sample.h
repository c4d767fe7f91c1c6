#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bezel/data/dataset.h"
#include "support/tiny_model.h"

namespace bezel::test {

/// Placeholders of images and audio clips of the tiny model.
inline constexpr std::int64_t kTinyImage = 60, kTinyAudio = 61;

/// A sample of the tiny model without labels, with media for the placeholders among `ids`; `look` gives the factor of
/// the pixels of each image.
inline data::Sample tiny_sample(const std::vector<std::int64_t>& ids, const std::function<double(std::int64_t)>& look) {
  data::Sample sample;
  sample.input_ids = ids;
  sample.labels.assign(ids.size(), data::kIgnoreLabel);
  const data::Batch media = tiny_batch();
  std::int64_t image_tokens = 0, audio_tokens = 0;
  for (const std::int64_t id : ids) {
    sample.token_types.push_back(id == kTinyImage ? 1 : id == kTinyAudio ? 3 : 0);
    image_tokens += id == kTinyImage;
    audio_tokens += id == kTinyAudio;
  }
  const data::Media &image = media.media[0], &clip = media.media[1];
  for (std::int64_t i = 0; i < image_tokens / image.num_soft_tokens; ++i) {
    sample.media.push_back(image);
    sample.media.back().features = image.features * look(i);
  }
  if (audio_tokens > 0) sample.media.push_back(clip);
  return sample;
}

}  // namespace bezel::test
