#pragma once

#include <string>
#include <string_view>

#include "bezel/input/media_kind.h"

namespace bezel::data {

using input::MediaKind;

/// Where an image or audio clip of a sample comes from: a file, or bytes inside the sample.
struct MediaSource {
  MediaKind kind = MediaKind::kImage;
  std::string path;  ///< as the sample gives it, relative to the media root; empty when `bytes` holds the file itself
  std::string bytes;
};

/// The file that `path` names below `root`, with symlinks followed. Absolute paths, file: URLs and ".." are read where
/// they end inside `root`. Throws Error, starting with `source`, on a path or symlink that leads out of `root`, on any
/// other URL, on anything but a regular file, and on a file that is not there.
std::string resolve_media_path(const std::string& root, const std::string& path, std::string_view source);

/// Bytes of base64 `text`; blanks and line ends are skipped. Throws Error starting with `source` when it is none.
std::string decode_base64(std::string_view text, std::string_view source);

}  // namespace bezel::data
