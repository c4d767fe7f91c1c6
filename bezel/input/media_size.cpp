#include "bezel/input/media_size.h"

#include <algorithm>
#include <cmath>

#include "bezel/error.h"
#include "bezel/io/divide_up.h"

namespace bezel::input {
namespace {

/// Whole multiples that fit into a length; divided and floored in double, as the reference does.
std::int64_t floor_quotient(double length, std::int64_t unit) {
  return static_cast<std::int64_t>(std::floor(length / static_cast<double>(unit)));
}

}  // namespace

bool operator==(const ImageSize& a, const ImageSize& b) { return a.height == b.height && a.width == b.width; }

ImageSize resized_image_size(std::int64_t height, std::int64_t width, std::int64_t patch_size,
                             std::int64_t max_soft_tokens, std::int64_t pooling) {
  if (height <= 0 || width <= 0) {
    throw Error("image of ", width, " x ", height, " pixels (width x height): both sides must be positive");
  }
  const std::int64_t side = patch_size * pooling;
  const double max_area = static_cast<double>(max_soft_tokens * side * side);
  // The order of these operations decides how a side on a multiple is rounded.
  const double factor = std::sqrt(max_area / (static_cast<double>(height) * static_cast<double>(width)));
  std::int64_t rows = floor_quotient(factor * static_cast<double>(height), side);
  std::int64_t columns = floor_quotient(factor * static_cast<double>(width), side);
  if (rows == 0 && columns == 0) {
    throw Error("image of ", width, " x ", height, " pixels: a budget of ", max_soft_tokens,
                " soft tokens leaves no space for one of ", side, " x ", side, " pixels");
  }
  if (rows == 0) {
    rows = 1;
    columns = std::min(floor_quotient(static_cast<double>(width), height), max_soft_tokens);
  } else if (columns == 0) {
    columns = 1;
    rows = std::min(floor_quotient(static_cast<double>(height), width), max_soft_tokens);
  }
  if (rows * columns > max_soft_tokens) {
    throw Error("image of ", width, " x ", height, " pixels would become ", rows * columns,
                " soft tokens, more than the budget of ", max_soft_tokens);
  }
  return {rows * side, columns * side};
}

std::int64_t image_soft_tokens(std::int64_t height, std::int64_t width, std::int64_t patch_size,
                               std::int64_t max_soft_tokens, std::int64_t pooling) {
  const ImageSize size = resized_image_size(height, width, patch_size, max_soft_tokens, pooling);
  const std::int64_t side = patch_size * pooling;
  return (size.height / side) * (size.width / side);
}

std::int64_t audio_num_frames(std::int64_t num_samples) {
  const std::int64_t kept = std::clamp<std::int64_t>(num_samples, 0, kMaxAudioSamples);
  const std::int64_t padded = io::divide_up(kept, kAudioPadMultiple) * kAudioPadMultiple;
  // Half a window of silence goes in front; a frame spans one sample more than its window.
  const std::int64_t capacity = padded + kAudioFrameLength / 2 - (kAudioFrameLength + 1);
  return capacity < 0 ? 0 : capacity / kAudioHopLength + 1;
}

std::int64_t audio_valid_frames(std::int64_t num_samples) {
  const std::int64_t kept = std::clamp<std::int64_t>(num_samples, 0, kMaxAudioSamples);
  // Frame f ends on sample f * hop + frame_length / 2, which must be a real one.
  const std::int64_t capacity = kept - 1 - kAudioFrameLength / 2;
  return capacity < 0 ? 0 : capacity / kAudioHopLength + 1;
}

std::int64_t audio_subsampled_frames(std::int64_t num_frames) {
  for (int conv = 0; conv < 2; ++conv) num_frames = num_frames == 0 ? 0 : (num_frames + 2 - 3) / 2 + 1;
  return num_frames;
}

std::int64_t audio_soft_tokens(std::int64_t num_samples) {
  // A row is real when the frame it starts from is: rows take every fourth frame.
  return std::min(io::divide_up(audio_valid_frames(num_samples), 4), kMaxAudioTokens);
}

std::int64_t audio_frame_tokens(std::int64_t num_samples, std::int64_t frame_samples) {
  return io::divide_up(std::max<std::int64_t>(num_samples, 0), frame_samples);
}

}  // namespace bezel::input
