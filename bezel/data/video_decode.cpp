#include "bezel/data/video_decode.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/data/av_input.h"
#include "bezel/data/av_rgb.h"
#include "bezel/data/av_truncation.h"
#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

// A packet that is shown.
struct FramePacket {
  std::int64_t time = 0, dts = 0;
  bool is_key = false;
};

struct Scan {
  std::vector<FramePacket> frames;  // by time
  std::vector<std::size_t> keys;    // of each frame the last key frame that is not after it
  std::int64_t end = 0;
  bool lacks_times =
      false;  // some packet has a time of decoding only, as in AVI; then frames are identified by their number
};

void check_bounds(const Scan& scan, const AVStream& stream, const std::string& name) {
  const auto count = static_cast<std::int64_t>(scan.frames.size());
  const std::int64_t pixels = std::int64_t{stream.codecpar->width} * stream.codecpar->height;
  if (count > kMaxVideoFrames)
    throw Error(name, ": a video of over ", kMaxVideoFrames,
                " frames; cut it: ffmpeg -ss BEGIN -t SECONDS -i IN OUT.mp4");
  if (pixels > kMaxVideoPixels / std::max<std::int64_t>(count, 1))
    throw Error(name, ": a video of over ", count - 1, " frames of ", stream.codecpar->width, " x ",
                stream.codecpar->height, " pixels, more than ", kMaxVideoPixels / 1000000000,
                " billion pixels in all; cut or scale it: ffmpeg -i IN -vf scale=1280:-2 OUT.mp4");
}

void sort_frames(Scan& scan) {
  std::ranges::stable_sort(scan.frames, {}, &FramePacket::time);
  std::size_t key = 0;
  for (std::size_t i = 0; i < scan.frames.size(); ++i) {
    if (scan.frames[i].is_key) key = i;
    scan.keys.push_back(key);
  }
}

std::int64_t end_of(std::int64_t time, std::int64_t duration) {
  return duration > INT64_MAX - std::max<std::int64_t>(time, 0) ? time : time + std::max<std::int64_t>(duration, 0);
}

// Reads all packets. Older versions of FFmpeg guess the durations of an MP4's frames by its rate; what the file says,
// and newer versions take, is the distance to the next frame in the order of decoding.
class Scanner {
 public:
  explicit Scanner(AvInput& input)
      : input_(input), has_distances_(std::string_view(input.format().iformat->name).starts_with("mov")) {}

  Scan run() {
    const AvPtr<AVPacket> packet(av().av_packet_alloc());
    std::int64_t seen = 0;
    while (input_.next(*packet)) {
      // Also of those that an edit list hides.
      if (++seen > 4 * kMaxVideoFrames) throw Error(input_.name(), ": a video of over ", seen - 1, " packets");
      add(*packet);
    }
    if (last_) scan_.end = std::max(scan_.end, end_of(last_->time, last_duration_));
    if (scan_.frames.empty()) throw Error(input_.name(), ": a video without frames");
    check_whole(input_, seen);
    sort_frames(scan_);
    return std::move(scan_);
  }

 private:
  void add(const AVPacket& packet) {
    const std::int64_t time = time_of(packet);
    if (time == AV_NOPTS_VALUE) throw Error(input_.name(), ": a frame without a time");
    const std::int64_t dts = packet.dts != AV_NOPTS_VALUE ? packet.dts : time;
    scan_.lacks_times = scan_.lacks_times || packet.pts == AV_NOPTS_VALUE;
    if (last_) {
      const bool follows = has_distances_ && dts > last_->dts;
      scan_.end = std::max(scan_.end, end_of(last_->time, follows ? dts - last_->dts : last_duration_));
    }
    last_.reset();
    if ((packet.flags & AV_PKT_FLAG_DISCARD) != 0) return;
    if (scan_.frames.empty()) scan_.end = time;
    last_ = FramePacket{time, dts, (packet.flags & AV_PKT_FLAG_KEY) != 0};
    last_duration_ = packet.duration;
    scan_.frames.push_back(*last_);
    check_bounds(scan_, input_.stream(), input_.name());
  }

  AvInput& input_;
  bool has_distances_;
  Scan scan_;
  std::optional<FramePacket> last_;  // whose end is not known yet
  std::int64_t last_duration_ = 0;
};

double seconds_of(std::int64_t time, AVRational unit) { return static_cast<double>(time) * unit.num / unit.den; }

// Rounded as torchcodec's: the whole part of a frame's time may hang on it.
double average_fps(const Scan& scan, const AVStream& stream, const std::string& name) {
  const double seconds =
      seconds_of(scan.end, stream.time_base) - seconds_of(scan.frames.front().time, stream.time_base);
  if (seconds > kMaxVideoSeconds)
    throw Error(name, ": a video of ", static_cast<std::int64_t>(seconds), " s, at most ",
                static_cast<std::int64_t>(kMaxVideoSeconds),
                " s are read; cut it: ffmpeg -ss BEGIN -t SECONDS -i IN OUT.mp4");
  const double fps = seconds != 0.0 ? static_cast<double>(scan.frames.size()) / seconds : av_q2d(stream.avg_frame_rate);
  if (!(fps > 0) || !std::isfinite(fps)) throw Error(name, ": a video whose frames take no time");
  return fps;
}

// As EXIF names it: 1, 3, 6 or 8.
int orientation_of(const AVStream& stream) {
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
  const AVPacketSideData* side = av().av_packet_side_data_get(
      stream.codecpar->coded_side_data, stream.codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  const std::uint8_t* bytes = side == nullptr || side->size < 9 * sizeof(std::int32_t) ? nullptr : side->data;
#else
  std::size_t size_bytes = 0;
  const std::uint8_t* bytes = av().av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size_bytes);
  if (size_bytes < 9 * sizeof(std::int32_t)) bytes = nullptr;
#endif
  if (bytes == nullptr) return 1;
  const double degrees = av().av_display_rotation_get(reinterpret_cast<const std::int32_t*>(bytes));
  if (std::isnan(degrees)) return 1;
  switch (static_cast<int>(std::round(degrees / 90.0))) {
    case 1:
      return 8;
    case -1:
      return 6;
    case 2:
    case -2:
      return 3;
    default:
      return 1;
  }
}

std::int64_t time_of_frame(const AVFrame& frame) {
  if (frame.pts != AV_NOPTS_VALUE) return frame.pts;
  return frame.pkt_dts != AV_NOPTS_VALUE ? frame.pkt_dts : frame.best_effort_timestamp;
}

}  // namespace

class VideoReader::State {
 public:
  explicit State(MediaFile file) : file_(std::move(file)) {
    input_ = std::make_unique<AvInput>(file_, AVMEDIA_TYPE_VIDEO);
    scan_ = Scanner(*input_).run();
    const AVStream& stream = input_->stream();
    orientation_ = orientation_of(stream);
    info_.size = {stream.codecpar->height, stream.codecpar->width};
    check_frame_size(info_.size);
    if (swaps_sides(orientation_)) std::swap(info_.size.height, info_.size.width);
    info_.num_frames = static_cast<std::int64_t>(scan_.frames.size());
    info_.fps = average_fps(scan_, stream, file_.name);
  }

  const VideoInfo& info() const { return info_; }

  void decode(std::span<const std::int64_t> indices, const std::function<void(RgbImage)>& on_frame) {
    rewind();
    for (const std::int64_t idx : indices) {
      if (!find(static_cast<std::size_t>(idx))) {
        // A seek may have lost it: from here on every frame is decoded, from the first one.
        in_order_ = true;
        rewind();
        if (!find(static_cast<std::size_t>(idx)))
          throw Error(file_.name, ": frame ", idx, " of ", info_.num_frames, " cannot be decoded; is the file whole?");
      }
      on_frame(make_upright(image(idx), orientation_));
    }
  }

 private:
  void check_frame_size(const input::ImageSize& size) const {
    if (size.height > 0 && size.width > 0 && size.height <= kMaxFramePixels / size.width) return;
    throw Error(file_.name, ": frames of ", size.width, " x ", size.height, " pixels; 1 to ", kMaxFramePixels,
                " pixels are read");
  }

  // To the begin of the file.
  void rewind() {
    decoder_.reset();
    input_ = std::make_unique<AvInput>(file_, AVMEDIA_TYPE_VIDEO);
    decoder_ = input_->open_decoder();
    has_frame_ = is_drained_ = has_packet_ = false;
    num_decoded_ = 0;
  }

  // Decodes up to frame `idx`; false where something else comes in its place.
  bool find(std::size_t idx) {
    if (scan_.lacks_times) return find_by_number(idx);
    const std::int64_t wanted = scan_.frames[idx].time;
    if (!seek_before(idx)) return false;
    while (!has_frame_ || time_of_frame(*frame_) < wanted)
      if (!next_frame()) return false;
    // A packet may make no frame of its own, as VP8's alternative references do: then the next one takes its place.
    const std::int64_t found = time_of_frame(*frame_);
    return found == wanted || (idx + 1 < scan_.frames.size() && found <= scan_.frames[idx + 1].time);
  }

  bool find_by_number(std::size_t idx) {
    while (num_decoded_ < idx + 1)
      if (!next_frame()) return false;
    return true;
  }

  // To the key frame of frame `idx` where decoding has not come as far.
  bool seek_before(std::size_t idx) {
    const FramePacket& key = scan_.frames[scan_.keys[idx]];
    const std::int64_t at = has_frame_ ? time_of_frame(*frame_) : scan_.frames.front().time;
    if (in_order_ || key.time <= at || !key.is_key) return true;
    for (const std::int64_t time : {key.time, key.dts}) {
      if (av().av_seek_frame(&input_->format(), input_->stream().index, time, AVSEEK_FLAG_BACKWARD) < 0) return false;
      av().avcodec_flush_buffers(decoder_.get());
      has_frame_ = is_drained_ = false;
      has_packet_ = input_->next(*packet_);
      // An index by decoding times may lead behind the key frame.
      if (has_packet_ && (packet_->flags & AV_PKT_FLAG_KEY) != 0 && time_of(*packet_) <= key.time) return true;
    }
    return false;
  }

  bool next_frame() {
    while (true) {
      const int code = av().avcodec_receive_frame(decoder_.get(), frame_.get());
      if (code == 0) {
        ++num_decoded_;
        return has_frame_ = true;
      }
      if (code == AVERROR_EOF || is_drained_) return false;
      if (code != AVERROR(EAGAIN)) input_->fail("a damaged frame", code);
      if (!has_packet_ && !input_->next(*packet_)) {
        is_drained_ = true;
        av().avcodec_send_packet(decoder_.get(), nullptr);
        continue;
      }
      has_packet_ = false;
      if (const int sent = av().avcodec_send_packet(decoder_.get(), packet_.get()); sent < 0) {
        if (!in_order_) return false;
        input_->fail("a damaged frame", sent);
      }
    }
  }

  RgbImage image(std::int64_t idx) {
    if ((frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame_->decode_error_flags != 0)
      throw Error(file_.name, ": frame ", idx, " of ", info_.num_frames, " is damaged; is the file whole?");
    RgbImage image = to_rgb(*frame_, file_.name);
    const auto stored = swaps_sides(orientation_) ? input::ImageSize{info_.size.width, info_.size.height} : info_.size;
    if (image.size == stored) return image;
    throw Error(file_.name, ": frame ", idx, " has ", image.size.width, " x ", image.size.height, " pixels, the first ",
                stored.width, " x ", stored.height);
  }

  MediaFile file_;
  std::unique_ptr<AvInput> input_;
  AvPtr<AVCodecContext> decoder_;
  Scan scan_;
  VideoInfo info_;
  int orientation_ = 1;
  AvPtr<AVFrame> frame_{av().av_frame_alloc()};  // the last one decoded, where has_frame_
  AvPtr<AVPacket> packet_{av().av_packet_alloc()};
  bool has_frame_ = false;
  std::size_t num_decoded_ = 0;  // since the begin of the file, where nothing was sought
  bool has_packet_ = false;      // packet_ was read and not sent yet
  bool is_drained_ = false;
  bool in_order_ = false;
};

bool has_video_decoder() { return has_av(); }

VideoReader::VideoReader(MediaFile file) : state_(std::make_unique<State>(std::move(file))) {}

VideoReader::~VideoReader() = default;

const VideoInfo& VideoReader::info() const { return state_->info(); }

void VideoReader::decode(std::span<const std::int64_t> indices, const std::function<void(RgbImage)>& on_frame) {
  state_->decode(indices, on_frame);
}

}  // namespace bezel::data
