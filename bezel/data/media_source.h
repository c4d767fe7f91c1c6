#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/input/media_kind.h"

namespace bezel::data {

using input::MediaKind;

/// Where an item of media of a sample comes from: a file, bytes inside the sample, or images that are a video's frames.
struct MediaSource {
  MediaKind kind = MediaKind::kImage;
  std::string path{};  ///< as the sample gives it, relative to the media root; empty when `bytes` holds the file itself
  std::string bytes{};
  std::vector<std::string> frames{};  ///< as `path`; of a video that is a list of images
  std::optional<double> fps{};        ///< of `frames`, or of the images in the folder `path`
};

/// The file (with `or_folder` also the folder) that `path` names below `root`, with symlinks followed. Absolute paths,
/// file: URLs and ".." are read where they end inside `root`. Throws Error, starting with `source`, on a path or
/// symlink that leads out of `root`, on any other URL, on anything but a regular file, and on a file that is not there.
std::string resolve_media_path(const std::string& root, const std::string& path, std::string_view source,
                               bool or_folder = false);

/// Bytes of base64 `text`; blanks and line ends are skipped. Throws Error starting with `source` when it is not base64.
std::string decode_base64(std::string_view text, std::string_view source);

}  // namespace bezel::data
