#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bezel::data {

/// Samples at 16 kHz that a recording makes, as its header says and at most `max_samples`; its sound is not decoded.
/// `name` is what errors begin with. Throws Error when the header cannot be read.
std::int64_t probe_audio_file(const std::string& path, std::int64_t max_samples, std::string_view name);
std::int64_t probe_audio_bytes(std::string_view bytes, std::int64_t max_samples, std::string_view name);

}  // namespace bezel::data
