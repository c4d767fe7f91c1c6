#include "bezel/data/media_video.h"

#include <filesystem>
#include <system_error>

#include "bezel/data/video_frames.h"
#include "bezel/error.h"

namespace bezel::data {

VideoFiles find_video(const MediaSource& source, const std::string& root, std::string_view name) {
  const auto resolve = [&](const std::string& path, bool or_folder) {
    return root.empty() ? path : resolve_media_path(root, path, name, or_folder);
  };
  if (!source.bytes.empty()) return {};
  VideoFiles files;
  if (source.frames.empty()) {
    const std::string path = resolve(source.path, /*or_folder=*/true);
    std::error_code error;
    files.is_list = std::filesystem::is_directory(path, error);
    if (!files.is_list && source.fps)
      throw Error(name, ": 'fps' stands beside the video file '", source.path.substr(0, 200),
                  "', whose own rate is read; video_fps in the config sets how many frames of a second are taken");
    if (files.is_list && !source.fps)
      throw Error(name, ": the video '", source.path.substr(0, 200),
                  "' is a folder of frames, which needs their rate; write {\"type\": \"video\", \"path\": FOLDER, "
                  "\"fps\": 24} (24 is what transformers takes where it is unknown)");
    files.paths = files.is_list ? frame_files(path, name) : std::vector<std::string>{path};
  } else {
    files = {source.frames, true};
  }
  // A link inside the folder must not lead out of the root.
  if (files.is_list)
    for (std::string& path : files.paths) path = resolve(path, /*or_folder=*/false);
  return files;
}

Video open_video(const VideoFiles& files, const MediaSource& source, std::string_view name,
                 const VideoSettings& settings) {
  if (files.is_list) return Video(files.paths, *source.fps, std::string(name), settings);
  if (files.paths.empty()) return Video({.path = "", .bytes = source.bytes, .name = std::string(name)}, settings);
  const std::string& path = files.paths[0];
  const std::string where = name.empty() ? path : std::string(name) + ": media file '" + path + "'";
  return Video({.path = path, .name = where}, settings);
}

MediaTokens video_tokens(const Video& video, const VideoSettings& settings) {
  const input::ImageSize& size = video.info().size;
  return {.soft_tokens = input::image_soft_tokens(size.height, size.width, settings.frame.patch_size,
                                                  settings.frame.max_soft_tokens, settings.frame.pooling),
          .times = video.times()};
}

}  // namespace bezel::data
