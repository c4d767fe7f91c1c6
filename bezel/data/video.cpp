#include "bezel/data/video.h"

#include <cmath>
#include <span>
#include <utility>

#include "bezel/data/video_frames.h"
#include "bezel/error.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

constexpr std::uint64_t kMaxFrameBytes = std::uint64_t{256} << 20;
constexpr double kMaxRate = 1000;

std::vector<std::byte> read_frame(const std::string& path) {
  const io::RegularFile file(path);
  if (file.size_bytes() > kMaxFrameBytes)
    throw Error(path, ": image of ", file.size_bytes(), " bytes, at most ", kMaxFrameBytes, " are read");
  std::vector<std::byte> bytes(file.size_bytes());
  bytes.resize(file.read(reinterpret_cast<char*>(bytes.data()), bytes.size(), 0));
  return bytes;
}

}  // namespace

Video::Video(MediaFile file, const VideoSettings& settings)
    : reader_(std::make_unique<VideoReader>(std::move(file))), info_(reader_->info()) {
  choose(settings);
}

Video::Video(std::vector<std::string> frames, double fps, std::string name, const VideoSettings& settings)
    : frames_(std::move(frames)), name_(std::move(name)) {
  if (!(fps > 0 && fps <= kMaxRate))
    throw Error(name_, ": 'fps' of its frames is ", fps, ", expected frames a second, above 0 and at most ", kMaxRate);
  if (frames_.empty()) throw Error(name_, ": a video without frames");
  const auto count = static_cast<std::int64_t>(frames_.size());
  if (count > kMaxVideoFrames)
    throw Error(name_, ": a video of ", count, " frames, at most ", kMaxVideoFrames, " are read");
  info_ = {.size = probe_image_size(read_frame(frames_[0]), frames_[0]), .num_frames = count, .fps = fps};
  choose(settings);
}

void Video::choose(const VideoSettings& settings) { indices_ = choose_frames(info_.num_frames, info_.fps, settings); }

std::vector<std::string> Video::times() const {
  std::vector<std::string> times;
  for (const std::int64_t idx : indices_) times.push_back(frame_time(idx, info_.fps));
  return times;
}

void Video::decode(const std::function<void(RgbImage)>& on_frame) {
  if (reader_) return reader_->decode(indices_, on_frame);
  for (const std::int64_t idx : indices_) {
    const std::string& path = frames_[static_cast<std::size_t>(idx)];
    RgbImage image = decode_rgb(read_frame(path), path);
    if (image.size != info_.size)
      throw Error(path, ": a frame of ", image.size.width, " x ", image.size.height, " pixels, the first has ",
                  info_.size.width, " x ", info_.size.height, "; the frames of a video have one size");
    on_frame(std::move(image));
  }
}

}  // namespace bezel::data
