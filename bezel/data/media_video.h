#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/media_source.h"
#include "bezel/data/sample_tokens.h"
#include "bezel/data/video.h"

namespace bezel::data {

/// The video that a sample names, found below the media root.
struct VideoFiles {
  std::vector<std::string> paths;  ///< of a file that one, of a list or a folder its images; empty for bytes
  bool is_list = false;            ///< the paths are images
};

/// Looks up `source` below `root`; an empty root takes its path as it is. Throws Error starting with `name` as
/// resolve_media_path and frame_files do, on images without a rate, and on a rate beside a file.
VideoFiles find_video(const MediaSource& source, const std::string& root, std::string_view name);

/// Opens what find_video found, which reads packets or one image's header.
Video open_video(const VideoFiles& files, const MediaSource& source, std::string_view name,
                 const VideoSettings& settings);

/// Its text in the prompt.
MediaTokens video_tokens(const Video& video, const VideoSettings& settings);

}  // namespace bezel::data
