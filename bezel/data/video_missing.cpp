#include "bezel/data/av_sound.h"
#include "bezel/data/video_decode.h"
#include "bezel/error.h"

namespace bezel::data {

class VideoReader::State {};

bool has_video_decoder() { return false; }

VideoReader::VideoReader(MediaFile file) {
  throw Error(file.name,
              ": this build of Bezel reads no video files, since FFmpeg's libraries were not there when it was made; "
              "install libavformat-dev libavcodec-dev libavutil-dev libswscale-dev and build again, or give the frames "
              "as a list of images with 'fps'");
}

VideoReader::~VideoReader() = default;

const VideoInfo& VideoReader::info() const {
  static const VideoInfo kNone;
  return kNone;
}

void VideoReader::decode(std::span<const std::int64_t>, const std::function<void(RgbImage)>&) {}

bool is_av_sound(const MediaFile&) { return false; }

AvSoundLength probe_av_sound(const MediaFile&, std::int64_t) { return {}; }

void decode_av_sound(const MediaFile&, const AvSoundSink&) {}

}  // namespace bezel::data
