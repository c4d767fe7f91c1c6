#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "bezel/data/av_library.h"
#include "bezel/data/video_decode.h"
#include "bezel/io/regular_file.h"

/// FFmpeg's demuxer and decoders over one file that we read ourselves: no protocol of FFmpeg's is used, so that no
/// playlist or reference in a file leads to another.
namespace bezel::data {

struct AvFree {
  void operator()(AVIOContext* io) const;
  void operator()(AVFormatContext* format) const;
  void operator()(AVCodecContext* codec) const;
  void operator()(AVPacket* packet) const;
  void operator()(AVFrame* frame) const;
};

template <typename Type>
using AvPtr = std::unique_ptr<Type, AvFree>;

/// Packets of the best stream of one type.
class AvInput {
 public:
  /// Throws Error on a format or codec that is not on our list, and where there is no such stream.
  AvInput(const MediaFile& file, AVMediaType type);
  AvInput(const AvInput&) = delete;
  AvInput& operator=(const AvInput&) = delete;

  AVFormatContext& format() { return *format_; }
  AVStream& stream() { return *stream_; }
  const std::string& name() const { return name_; }
  std::uint64_t size_bytes() const { return size_bytes_; }

  /// The next packet of the stream; false at the end. Throws Error on a damaged or truncated one.
  bool next(AVPacket& packet);
  /// A decoder for the stream.
  AvPtr<AVCodecContext> open_decoder();
  /// Throws Error with FFmpeg's words for `code`.
  [[noreturn]] void fail(std::string_view what, int code) const;

 private:
  static int read(void* self, std::uint8_t* to, int size);
  static std::int64_t seek(void* self, std::int64_t offset, int whence);
  void open();
  void choose_stream(AVMediaType type);

  std::string name_;
  std::unique_ptr<io::RegularFile> file_;
  std::string_view bytes_;
  std::uint64_t size_bytes_ = 0;
  std::int64_t at_ = 0;
  AvPtr<AVIOContext> io_;
  AvPtr<AVFormatContext> format_;
  AVStream* stream_ = nullptr;
};

/// The time of a packet, in the stream's unit: presentation, or decoding where the packet has none.
inline std::int64_t time_of(const AVPacket& packet) { return packet.pts != AV_NOPTS_VALUE ? packet.pts : packet.dts; }

}  // namespace bezel::data
