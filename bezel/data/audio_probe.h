#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bezel::data {

struct AudioLength {
  std::int64_t samples = 0;  ///< at 16 kHz, at most max_samples
  bool is_cut = false;       ///< the audio clip has more than max_samples
};

/// Length of an audio clip by its header; its samples are not decoded. `name` is what errors begin with. Throws Error
/// naming the file and the formats that are read when the header cannot be read.
AudioLength probe_audio_file(const std::string& path, std::int64_t max_samples, std::string_view name);
AudioLength probe_audio_bytes(std::string_view bytes, std::int64_t max_samples, std::string_view name);

}  // namespace bezel::data
