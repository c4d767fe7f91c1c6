#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bezel/data/image_decode.h"
#include "bezel/input/media_size.h"

/// Video and audio by FFmpeg's libraries. A build without them has these functions too; they throw Error that names the
/// packages to install.
namespace bezel::data {

/// A media file on disk, or its bytes.
struct MediaFile {
  std::string path;          ///< empty: `bytes` hold it
  std::string_view bytes{};  ///< borrowed
  std::string name{};        ///< what errors begin with
};

/// Largest video that is read.
inline constexpr std::int64_t kMaxVideoFrames = 90000;           ///< 50 minutes at 30 a second
inline constexpr double kMaxVideoSeconds = 4 * 3600.0;           ///< 4 hours
inline constexpr std::int64_t kMaxFramePixels = 36000000;        ///< 8K
inline constexpr std::int64_t kMaxVideoPixels = 200000000000LL;  ///< of all frames: 50 minutes of 1080p at 30 a second

/// What a scan of all packets says, as torchcodec's exact mode counts.
struct VideoInfo {
  input::ImageSize size{};      ///< upright
  std::int64_t num_frames = 0;  ///< that are shown: what an edit list hides is left out
  double fps = 0;               ///< num_frames over the time from the first frame's begin to the last one's end
};

/// Whether this build reads video files.
bool has_video_decoder();

/// A video file, opened and scanned. MP4/MOV, Matroska/WebM, AVI and GIF with H.264, HEVC, AV1, VP8, VP9, MPEG-1/2/4,
/// MJPEG, ProRes, FFV1, PNG or GIF inside. Nothing but the file itself is ever opened.
class VideoReader {
 public:
  /// Reads all packets, decodes nothing. Throws Error on another format, no video, no frame, a truncated file, and
  /// beyond the bounds above.
  explicit VideoReader(MediaFile file);
  ~VideoReader();

  const VideoInfo& info() const;

  /// Decodes the frames at `indices`, ascending, in the order of their times, and calls `on_frame` with each, upright
  /// RGB. Seeks to key frames where that saves work; what comes out is the same. Throws Error on a frame that cannot be
  /// decoded, or has another size than the first.
  void decode(std::span<const std::int64_t> indices, const std::function<void(RgbImage)>& on_frame);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace bezel::data
