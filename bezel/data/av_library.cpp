#include "bezel/data/av_library.h"

#include <string>

#include <dlfcn.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

// Settings of the whole process: a library is silent, and no header makes it take all memory.
constexpr std::size_t kMaxAllocation = std::size_t{512} << 20;

/// A shared library that stays loaded.
class Shared {
 public:
  Shared(const char* stem, int major) : name_("lib" + std::string(stem) + ".so." + std::to_string(major)) {
    handle_ = ::dlopen(name_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) fail(::dlerror());
  }

  template <typename Function>
  void get(const char* name, Function& to) const {
    to = reinterpret_cast<Function>(::dlsym(handle_, name));
    if (to == nullptr) fail(std::string("has no ") + name);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error("video files, M4A and WebM need FFmpeg's libraries, of which ", name_, " cannot be loaded (", why,
                "); on Debian: apt-get install libavformat", LIBAVFORMAT_VERSION_MAJOR, " libavcodec",
                LIBAVCODEC_VERSION_MAJOR, " libavutil", LIBAVUTIL_VERSION_MAJOR, " libswscale",
                LIBSWSCALE_VERSION_MAJOR);
  }

  std::string name_;
  void* handle_ = nullptr;
};

void load_formats(AvLibrary& av) {
  const Shared format("avformat", LIBAVFORMAT_VERSION_MAJOR);
  format.get("av_probe_input_buffer2", av.av_probe_input_buffer2);
  format.get("avformat_alloc_context", av.avformat_alloc_context);
  format.get("avformat_open_input", av.avformat_open_input);
  format.get("avformat_close_input", av.avformat_close_input);
  format.get("avformat_find_stream_info", av.avformat_find_stream_info);
  format.get("av_find_best_stream", av.av_find_best_stream);
  format.get("av_read_frame", av.av_read_frame);
  format.get("av_seek_frame", av.av_seek_frame);
  format.get("avformat_index_get_entries_count", av.avformat_index_get_entries_count);
  format.get("avformat_index_get_entry", av.avformat_index_get_entry);
  format.get("avio_alloc_context", av.avio_alloc_context);
  format.get("avio_context_free", av.avio_context_free);
  format.get("avio_seek", av.avio_seek);
  format.get("avio_read", av.avio_read);
#if LIBAVFORMAT_VERSION_INT < AV_VERSION_INT(60, 15, 100)
  format.get("av_stream_get_side_data", av.av_stream_get_side_data);
#endif
}

void load_codecs(AvLibrary& av) {
  const Shared codec("avcodec", LIBAVCODEC_VERSION_MAJOR);
  codec.get("avcodec_find_decoder", av.avcodec_find_decoder);
  codec.get("avcodec_alloc_context3", av.avcodec_alloc_context3);
  codec.get("avcodec_free_context", av.avcodec_free_context);
  codec.get("avcodec_parameters_to_context", av.avcodec_parameters_to_context);
  codec.get("avcodec_open2", av.avcodec_open2);
  codec.get("avcodec_send_packet", av.avcodec_send_packet);
  codec.get("avcodec_receive_frame", av.avcodec_receive_frame);
  codec.get("avcodec_flush_buffers", av.avcodec_flush_buffers);
  codec.get("avcodec_get_name", av.avcodec_get_name);
  codec.get("av_packet_alloc", av.av_packet_alloc);
  codec.get("av_packet_free", av.av_packet_free);
  codec.get("av_packet_unref", av.av_packet_unref);
  codec.get("av_packet_get_side_data", av.av_packet_get_side_data);
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
  codec.get("av_packet_side_data_get", av.av_packet_side_data_get);
#endif
}

void load_tools(AvLibrary& av) {
  const Shared util("avutil", LIBAVUTIL_VERSION_MAJOR), scale("swscale", LIBSWSCALE_VERSION_MAJOR);
  util.get("av_frame_alloc", av.av_frame_alloc);
  util.get("av_frame_free", av.av_frame_free);
  util.get("av_malloc", av.av_malloc);
  util.get("av_free", av.av_free);
  util.get("av_max_alloc", av.av_max_alloc);
  util.get("av_log_set_level", av.av_log_set_level);
  util.get("av_strerror", av.av_strerror);
  util.get("av_display_rotation_get", av.av_display_rotation_get);
  util.get("av_get_pix_fmt_name", av.av_get_pix_fmt_name);
  scale.get("sws_getContext", av.sws_getContext);
  scale.get("sws_freeContext", av.sws_freeContext);
  scale.get("sws_getColorspaceDetails", av.sws_getColorspaceDetails);
  scale.get("sws_setColorspaceDetails", av.sws_setColorspaceDetails);
  scale.get("sws_getCoefficients", av.sws_getCoefficients);
  scale.get("sws_scale", av.sws_scale);
}

AvLibrary load() {
  AvLibrary av{};
  load_tools(av);
  load_codecs(av);
  load_formats(av);
  av.av_log_set_level(AV_LOG_QUIET);
  av.av_max_alloc(kMaxAllocation);
  return av;
}

}  // namespace

const AvLibrary& av() {
  static const AvLibrary library = load();  // one that throws is tried again
  return library;
}

bool has_av() {
  try {
    av();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace bezel::data
