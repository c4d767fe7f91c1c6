#include "bezel/data/av_sound.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "bezel/data/av_input.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr int kMaxChannels = 64;
constexpr std::int64_t kMaxPackets = 1 << 22;

struct Skipped {
  std::int64_t begin = 0, end = 0;
};

// Samples at both ends of a packet that are padding of the coder. The form is FFmpeg's: two 32-bit numbers.
Skipped skipped_of(const AVPacket& packet) {
  std::size_t size_bytes = 0;
  const std::uint8_t* side = av().av_packet_get_side_data(&packet, AV_PKT_DATA_SKIP_SAMPLES, &size_bytes);
  if (side == nullptr || size_bytes < 8) return {};
  const auto number = [&](std::size_t at) {
    return std::int64_t{side[at]} | std::int64_t{side[at + 1]} << 8 | std::int64_t{side[at + 2]} << 16 |
           std::int64_t{side[at + 3]} << 24;
  };
  return {number(0), number(4)};
}

int channels_of(const AVFrame& frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 28, 100)
  return frame.ch_layout.nb_channels;
#else
  return frame.channels;
#endif
}

template <typename Stored>
void interleave(const AVFrame& frame, bool is_planar, int channels, float scale, std::vector<float>& out) {
  for (int i = 0; i < frame.nb_samples; ++i)
    for (int c = 0; c < channels; ++c) {
      const auto* plane = reinterpret_cast<const Stored*>(frame.extended_data[is_planar ? c : 0]);
      out.push_back(static_cast<float>(is_planar ? plane[i] : plane[i * channels + c]) * scale);
    }
}

// Interleaved samples; integers by the power of two that libsndfile divides by.
std::vector<float> samples_of(const AVFrame& frame, int channels, const std::string& name) {
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(frame.nb_samples) * static_cast<std::size_t>(channels));
  switch (frame.format) {
    case AV_SAMPLE_FMT_FLT:
    case AV_SAMPLE_FMT_FLTP:
      interleave<float>(frame, frame.format == AV_SAMPLE_FMT_FLTP, channels, 1.0F, out);
      return out;
    case AV_SAMPLE_FMT_S16:
    case AV_SAMPLE_FMT_S16P:
      interleave<std::int16_t>(frame, frame.format == AV_SAMPLE_FMT_S16P, channels, 1.0F / 32768.0F, out);
      return out;
    case AV_SAMPLE_FMT_S32:
    case AV_SAMPLE_FMT_S32P:
      interleave<std::int32_t>(frame, frame.format == AV_SAMPLE_FMT_S32P, channels, 1.0F / 2147483648.0F, out);
      return out;
    default:
      throw Error(name, ": its samples are of a form that is not read");
  }
}

std::string_view begin_of(const MediaFile& file, std::array<char, 16>& buffer) {
  if (file.path.empty()) return file.bytes.substr(0, buffer.size());
  const io::RegularFile opened(file.path);
  return {buffer.data(), opened.read(buffer.data(), buffer.size(), 0)};
}

// Gives every frame of the decoder to `sink`; false when it asked to end.
bool drain(AvInput& input, AVCodecContext& decoder, AVFrame& frame, const AvSoundSink& sink) {
  while (true) {
    const int code = av().avcodec_receive_frame(&decoder, &frame);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return true;
    if (code < 0) input.fail("a damaged packet of audio", code);
    const int channels = channels_of(frame);
    if (channels < 1 || channels > kMaxChannels)
      throw Error(input.name(), ": audio clip of ", channels, " channels, expected 1 to ", kMaxChannels);
    if (frame.nb_samples > 0 && !sink(samples_of(frame, channels, input.name()), channels, frame.sample_rate))
      return false;
  }
}

}  // namespace

bool is_av_sound(const MediaFile& file) {
  std::array<char, 16> buffer{};
  const std::string_view begin = begin_of(file, buffer);
  const bool is_mp4 = begin.size() >= 12 && begin.substr(4, 4) == "ftyp";
  const bool is_adts = begin.size() >= 2 && begin[0] == '\xff' && (static_cast<unsigned char>(begin[1]) & 0xF6) == 0xF0;
  return (is_mp4 || is_adts || begin.starts_with("\x1a\x45\xdf\xa3")) && has_av();
}

AvSoundLength probe_av_sound(const MediaFile& file, std::int64_t max_seconds) {
  AvInput input(file, AVMEDIA_TYPE_AUDIO);
  const AVStream& stream = input.stream();
  AvSoundLength length{.rate = stream.codecpar->sample_rate};
  if (length.rate <= 0) throw Error(input.name(), ": audio clip at ", length.rate, " Hz");
  const AvPtr<AVPacket> packet(av().av_packet_alloc());
  const double unit = av_q2d(stream.time_base);
  double seconds = 0;
  for (std::int64_t count = 0; count < kMaxPackets && input.next(*packet); ++count) {
    if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0) continue;
    const Skipped skipped = skipped_of(*packet);
    seconds += static_cast<double>(packet->duration) * unit -
               static_cast<double>(skipped.begin + skipped.end) / static_cast<double>(length.rate);
    if (seconds > static_cast<double>(max_seconds)) break;
  }
  length.frames = static_cast<std::int64_t>(std::ceil(std::max(seconds, 0.0) * length.rate));
  return length;
}

void decode_av_sound(const MediaFile& file, const AvSoundSink& sink) {
  AvInput input(file, AVMEDIA_TYPE_AUDIO);
  const AvPtr<AVCodecContext> decoder = input.open_decoder();
  const AvPtr<AVPacket> packet(av().av_packet_alloc());
  const AvPtr<AVFrame> frame(av().av_frame_alloc());
  while (input.next(*packet)) {
    if (const int code = av().avcodec_send_packet(decoder.get(), packet.get()); code < 0)
      input.fail("a damaged packet of audio", code);
    if (!drain(input, *decoder, *frame, sink)) return;
  }
  av().avcodec_send_packet(decoder.get(), nullptr);
  drain(input, *decoder, *frame, sink);
}

}  // namespace bezel::data
