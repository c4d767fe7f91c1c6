#pragma once

#include <cstdint>

namespace bezel::input {

/// Height and width of an image, in pixels.
struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

bool operator==(const ImageSize& a, const ImageSize& b);

/// Size that an image is brought to before it is cut into patches: aspect ratio kept, sides multiples of
/// patch_size * pooling, at most max_soft_tokens * pooling^2 patches. A side that would vanish becomes one multiple,
/// and the other side then follows the aspect ratio rounded down. Throws Error when a side is not positive, when both
/// sides would vanish, or when one of them cannot be rescued.
ImageSize resized_image_size(std::int64_t height, std::int64_t width, std::int64_t patch_size = 16,
                             std::int64_t max_soft_tokens = 280, std::int64_t pooling = 3);

/// Soft tokens of an image of that size: its resized area over (patch_size * pooling)^2. Throws as above.
std::int64_t image_soft_tokens(std::int64_t height, std::int64_t width, std::int64_t patch_size = 16,
                               std::int64_t max_soft_tokens = 280, std::int64_t pooling = 3);

/// How the audio front end cuts 16 kHz samples into frames.
inline constexpr std::int64_t kAudioSampleRate = 16000;
inline constexpr std::int64_t kAudioFrameLength = 320;    ///< samples under one window
inline constexpr std::int64_t kAudioHopLength = 160;      ///< samples between windows
inline constexpr std::int64_t kAudioPadMultiple = 128;    ///< audio clips are padded to a multiple of this
inline constexpr std::int64_t kMaxAudioSamples = 480000;  ///< 30 s; what is longer is cut
inline constexpr std::int64_t kMaxAudioTokens = 750;

/// Mel frames of an audio clip of `num_samples` at 16 kHz, those over its padding included.
std::int64_t audio_num_frames(std::int64_t num_samples);

/// Frames whose whole window, and the sample after it, are on real samples: the first ones of audio_num_frames.
std::int64_t audio_valid_frames(std::int64_t num_samples);

/// Rows that the audio tower makes of `num_frames` frames: two convolutions of stride 2, kernel 3, padding 1.
std::int64_t audio_subsampled_frames(std::int64_t num_frames);

/// Soft tokens of an audio clip of `num_samples` at 16 kHz; 0 below 161 samples.
std::int64_t audio_soft_tokens(std::int64_t num_samples);

/// The same in the unified model, where every `frame_samples`, the last ones filled up with zeros, are one.
std::int64_t audio_frame_tokens(std::int64_t num_samples, std::int64_t frame_samples);

}  // namespace bezel::input
