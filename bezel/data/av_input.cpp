#include "bezel/data/av_input.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::string_view kFormats[] = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "gif", "aac"};
constexpr AVCodecID kVideoCodecs[] = {
    AV_CODEC_ID_H264,      AV_CODEC_ID_HEVC,      AV_CODEC_ID_AV1,        AV_CODEC_ID_VP8,
    AV_CODEC_ID_VP9,       AV_CODEC_ID_MPEG4,     AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG1VIDEO,
    AV_CODEC_ID_MSMPEG4V2, AV_CODEC_ID_MSMPEG4V3, AV_CODEC_ID_MJPEG,      AV_CODEC_ID_GIF,
    AV_CODEC_ID_FFV1,      AV_CODEC_ID_PNG,       AV_CODEC_ID_PRORES,     AV_CODEC_ID_H263,
};
constexpr AVCodecID kAudioCodecs[] = {AV_CODEC_ID_AAC,       AV_CODEC_ID_OPUS,      AV_CODEC_ID_VORBIS,
                                      AV_CODEC_ID_MP3,       AV_CODEC_ID_ALAC,      AV_CODEC_ID_FLAC,
                                      AV_CODEC_ID_PCM_S16LE, AV_CODEC_ID_PCM_S16BE, AV_CODEC_ID_AC3};
constexpr int kIoBytes = 1 << 16;
constexpr int kMaxStreams = 64;

template <typename Type>
AvPtr<Type> owned(Type* made) {
  if (made == nullptr) throw Error(ErrorKind::kMemory, "out of memory in FFmpeg's libraries");
  return AvPtr<Type>(made);
}

// Some formats name other files; they are not opened.
int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) { return AVERROR(EPERM); }

const char* type_word(AVMediaType type) { return type == AVMEDIA_TYPE_VIDEO ? "video" : "audio"; }

bool is_known(AVCodecID id, AVMediaType type) {
  if (type == AVMEDIA_TYPE_VIDEO) return std::ranges::find(kVideoCodecs, id) != std::end(kVideoCodecs);
  return std::ranges::find(kAudioCodecs, id) != std::end(kAudioCodecs);
}

}  // namespace

void AvFree::operator()(AVIOContext* io) const {
  av().av_free(io->buffer);
  av().avio_context_free(&io);
}
void AvFree::operator()(AVFormatContext* format) const { av().avformat_close_input(&format); }
void AvFree::operator()(AVCodecContext* codec) const { av().avcodec_free_context(&codec); }
void AvFree::operator()(AVPacket* packet) const { av().av_packet_free(&packet); }
void AvFree::operator()(AVFrame* frame) const { av().av_frame_free(&frame); }

AvInput::AvInput(const MediaFile& file, AVMediaType type) : name_(file.name), bytes_(file.bytes) {
  if (!file.path.empty()) file_ = std::make_unique<io::RegularFile>(file.path);
  size_bytes_ = file_ ? file_->size_bytes() : bytes_.size();
  if (size_bytes_ == 0) throw Error(name_, ": the file is empty");
  open();
  choose_stream(type);
}

void AvInput::fail(std::string_view what, int code) const {
  char text[AV_ERROR_MAX_STRING_SIZE] = "";
  av().av_strerror(code, text, sizeof text);
  throw Error(name_, ": ", what, ": ", text);
}

int AvInput::read(void* self, std::uint8_t* to, int size) {
  auto& input = *static_cast<AvInput*>(self);
  const auto at = static_cast<std::uint64_t>(input.at_);
  if (at >= input.size_bytes_) return AVERROR_EOF;
  const auto wanted = static_cast<std::size_t>(
      std::min<std::uint64_t>(input.size_bytes_ - at, static_cast<std::uint64_t>(std::max(size, 0))));
  std::size_t count = wanted;
  try {
    if (input.file_)
      count = input.file_->read(reinterpret_cast<char*>(to), wanted, at);
    else
      std::copy_n(input.bytes_.data() + at, wanted, reinterpret_cast<char*>(to));
  } catch (const Error&) {  // C code is below us; it hands the code back to fail()
    return AVERROR(EIO);
  }
  if (count == 0) return AVERROR_EOF;
  input.at_ += static_cast<std::int64_t>(count);
  return static_cast<int>(count);
}

std::int64_t AvInput::seek(void* self, std::int64_t offset, int whence) {
  auto& input = *static_cast<AvInput*>(self);
  const auto size = static_cast<std::int64_t>(input.size_bytes_);
  if ((whence & AVSEEK_SIZE) != 0) return size;
  whence &= ~AVSEEK_FORCE;
  const std::int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? input.at_ : size;
  if (offset < -base || offset > INT64_MAX - base) return AVERROR(EINVAL);
  input.at_ = base + offset;
  return input.at_;
}

void AvInput::open() {
  auto* buffer = static_cast<unsigned char*>(av().av_malloc(kIoBytes));
  io_ = owned(av().avio_alloc_context(buffer, kIoBytes, 0, this, &AvInput::read, nullptr, &AvInput::seek));
  const AVInputFormat* found = nullptr;
  if (const int code = av().av_probe_input_buffer2(io_.get(), &found, "", nullptr, 0, 0); code < 0)
    fail("not a media file that Bezel reads (MP4, MOV, WebM, Matroska, AVI or GIF, told by their bytes)", code);
  if (std::ranges::find(kFormats, std::string_view(found->name)) == std::end(kFormats))
    throw Error(
        name_, ": a file of the format '", found->name, "' (", found->long_name == nullptr ? "" : found->long_name,
        "); MP4, MOV, WebM, Matroska, AVI and GIF are read, and no playlist or list of other files is followed; "
        "convert it: ffmpeg -i IN OUT.mp4");
  AVFormatContext* context = owned(av().avformat_alloc_context()).release();
  context->pb = io_.get();
  context->flags |= AVFMT_FLAG_CUSTOM_IO;
  context->io_open = refuse_to_open;
  context->max_streams = kMaxStreams;
  const int opened = av().avformat_open_input(&context, "", found, nullptr);
  if (opened < 0) fail("a damaged or truncated file", opened);  // which has freed the context
  format_.reset(context);
  if (const int code = av().avformat_find_stream_info(format_.get(), nullptr); code < 0)
    fail("a damaged or truncated file", code);
}

void AvInput::choose_stream(AVMediaType type) {
  const int idx = av().av_find_best_stream(format_.get(), type, -1, -1, nullptr, 0);
  if (idx < 0)
    throw Error(name_, ": holds no ", type_word(type), idx == AVERROR_DECODER_NOT_FOUND ? " that is known" : "");
  stream_ = format_->streams[idx];
  if ((stream_->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0)
    throw Error(name_, ": holds no video, only audio with a cover image");
  if (!is_known(stream_->codecpar->codec_id, type))
    throw Error(name_, ": its ", type_word(type), " is coded in '", av().avcodec_get_name(stream_->codecpar->codec_id),
                "', which is not read; convert it: ffmpeg -i IN OUT.mp4");
  for (unsigned i = 0; i < format_->nb_streams; ++i)
    if (format_->streams[i] != stream_) format_->streams[i]->discard = AVDISCARD_ALL;
}

bool AvInput::next(AVPacket& packet) {
  while (true) {
    av().av_packet_unref(&packet);
    const int code = av().av_read_frame(format_.get(), &packet);
    if (code == AVERROR_EOF) return false;
    if (code < 0) fail("a damaged or truncated file", code);
    if (packet.stream_index != stream_->index) continue;
    if ((packet.flags & AV_PKT_FLAG_CORRUPT) != 0)
      throw Error(name_, ": a packet is damaged or cut off; is the file whole?");
    return true;
  }
}

AvPtr<AVCodecContext> AvInput::open_decoder() {
  const AVCodec* codec = av().avcodec_find_decoder(stream_->codecpar->codec_id);
  if (codec == nullptr)
    throw Error(name_, ": FFmpeg's libraries have no decoder for '", av().avcodec_get_name(stream_->codecpar->codec_id),
                "' here");
  auto decoder = owned(av().avcodec_alloc_context3(codec));
  if (const int code = av().avcodec_parameters_to_context(decoder.get(), stream_->codecpar); code < 0)
    fail("its decoder takes no such parameters", code);
  decoder->thread_count = 1;  // samples are read side by side already
  decoder->pkt_timebase = stream_->time_base;
  decoder->max_pixels = kMaxFramePixels;
  if (const int code = av().avcodec_open2(decoder.get(), codec, nullptr); code < 0)
    fail("its decoder does not open", code);
  return decoder;
}

}  // namespace bezel::data
