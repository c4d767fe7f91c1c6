#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bezel/data/processor_config.h"
#include "bezel/data/video_decode.h"

namespace bezel::data {

/// The frames that the model sees of one video, which is a file or a list of images.
class Video {
 public:
  /// Throws as VideoReader does.
  Video(MediaFile file, const VideoSettings& settings);
  /// Images of one size that were taken at `fps`; the first one's header is read. `name` is what errors begin with.
  Video(std::vector<std::string> frames, double fps, std::string name, const VideoSettings& settings);

  const VideoInfo& info() const { return info_; }
  /// Of the frames that are seen, ascending.
  const std::vector<std::int64_t>& indices() const { return indices_; }
  /// "mm:ss" of each.
  std::vector<std::string> times() const;
  /// Calls `on_frame` with each, upright RGB of info().size. Throws Error on one that cannot be decoded.
  void decode(const std::function<void(RgbImage)>& on_frame);

 private:
  void choose(const VideoSettings& settings);

  std::unique_ptr<VideoReader> reader_;  // of a file
  std::vector<std::string> frames_;      // of a list
  std::string name_;
  VideoInfo info_;
  std::vector<std::int64_t> indices_;
};

}  // namespace bezel::data
