#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/input/media_size.h"

namespace bezel::data {

/// Decodes WAV, FLAC, MP3 or OGG, averages the channels and resamples to 16 kHz as soundfile + soxr (HQ) do. Reading
/// stops once `max_samples` have come out, whatever the header claims. `source` names the audio clip in errors. Throws
/// Error on anything unreadable, without samples, with samples that are not finite, with a rate outside 1000..768000 Hz
/// or with more than 64 channels.
std::vector<float> decode_samples(std::span<const std::byte> bytes, std::string_view source,
                                  std::int64_t max_samples = input::kMaxAudioSamples);

/// The same for a regular file, of which only the needed part is read; throws Error (kIo) when it cannot be opened.
std::vector<float> decode_samples_file(const std::string& path, std::int64_t max_samples = input::kMaxAudioSamples);

}  // namespace bezel::data
