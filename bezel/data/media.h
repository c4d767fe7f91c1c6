#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/data/media_source.h"
#include "bezel/data/processor_config.h"
#include "bezel/data/sample_tokens.h"
#include "bezel/input/media_size.h"

namespace bezel::data {

/// An item of media of a sample, from its header.
struct MediaInfo {
  MediaKind kind = MediaKind::kImage;
  std::string path;             ///< as the sample gives it; "" for bytes inside the sample
  input::ImageSize size{};      ///< of an image and of a video's frames, upright
  std::int64_t samples = 0;     ///< of audio at 16 kHz, at most what is read of it
  bool is_cut = false;          ///< the audio is longer than what is read
  std::int64_t num_frames = 0;  ///< of a video, seen or not
  double fps = 0;               ///< of a video, frames a second
  MediaTokens tokens{};         ///< of audio an upper bound that may be one too large; of a video with the times of the
                                ///< frames that are seen
  std::string fingerprint = {};  ///< of a file: hash of its size and of 4 KiB each at begin, middle and end

  std::int64_t soft_tokens() const { return tokens.total(); }
};

/// An item of media, decoded.
struct LoadedMedia {
  MediaTokens tokens;        ///< its text in the prompt
  std::vector<Media> items;  ///< one, or of a video its frames
};

/// Decodes the file `path`. Throws Error when it cannot be read or decoded, or is too short for one soft token.
LoadedMedia load_media(MediaKind kind, const std::string& path, const MediaSettings& settings);

/// The same for `source`, whose path is looked up below `root`. `name`, "file:line", begins messages about bytes inside
/// the sample.
LoadedMedia load_media(const MediaSource& source, const std::string& root, std::string_view name,
                       const MediaSettings& settings);

/// Reads the header of `source` alone, of a video its packets, and of a file the bytes of its fingerprint. Throws as
/// load_media does.
MediaInfo probe_media(const MediaSource& source, const std::string& root, std::string_view name,
                      const MediaSettings& settings);

}  // namespace bezel::data
