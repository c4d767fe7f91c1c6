#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

namespace bezel::data {

/// FFmpeg's functions, found when the first media file needs them: the libraries bring some 130 others along, which
/// would cost every start of the program a tenth of a second and 30 MB.
struct AvLibrary {
  decltype(&::av_probe_input_buffer2) av_probe_input_buffer2;
  decltype(&::avformat_alloc_context) avformat_alloc_context;
  decltype(&::avformat_open_input) avformat_open_input;
  decltype(&::avformat_close_input) avformat_close_input;
  decltype(&::avformat_find_stream_info) avformat_find_stream_info;
  decltype(&::av_find_best_stream) av_find_best_stream;
  decltype(&::av_read_frame) av_read_frame;
  decltype(&::av_seek_frame) av_seek_frame;
  decltype(&::avformat_index_get_entries_count) avformat_index_get_entries_count;
  decltype(&::avformat_index_get_entry) avformat_index_get_entry;
  decltype(&::avio_alloc_context) avio_alloc_context;
  decltype(&::avio_context_free) avio_context_free;
  decltype(&::avio_seek) avio_seek;
  decltype(&::avio_read) avio_read;
  decltype(&::avcodec_find_decoder) avcodec_find_decoder;
  decltype(&::avcodec_alloc_context3) avcodec_alloc_context3;
  decltype(&::avcodec_free_context) avcodec_free_context;
  decltype(&::avcodec_parameters_to_context) avcodec_parameters_to_context;
  decltype(&::avcodec_open2) avcodec_open2;
  decltype(&::avcodec_send_packet) avcodec_send_packet;
  decltype(&::avcodec_receive_frame) avcodec_receive_frame;
  decltype(&::avcodec_flush_buffers) avcodec_flush_buffers;
  decltype(&::avcodec_get_name) avcodec_get_name;
  decltype(&::av_packet_alloc) av_packet_alloc;
  decltype(&::av_packet_free) av_packet_free;
  decltype(&::av_packet_unref) av_packet_unref;
  decltype(&::av_packet_get_side_data) av_packet_get_side_data;
  decltype(&::av_frame_alloc) av_frame_alloc;
  decltype(&::av_frame_free) av_frame_free;
  decltype(&::av_malloc) av_malloc;
  decltype(&::av_free) av_free;
  decltype(&::av_max_alloc) av_max_alloc;
  decltype(&::av_log_set_level) av_log_set_level;
  decltype(&::av_strerror) av_strerror;
  decltype(&::av_display_rotation_get) av_display_rotation_get;
  decltype(&::av_get_pix_fmt_name) av_get_pix_fmt_name;
  decltype(&::sws_getContext) sws_getContext;
  decltype(&::sws_freeContext) sws_freeContext;
  decltype(&::sws_getColorspaceDetails) sws_getColorspaceDetails;
  decltype(&::sws_setColorspaceDetails) sws_setColorspaceDetails;
  decltype(&::sws_getCoefficients) sws_getCoefficients;
  decltype(&::sws_scale) sws_scale;
#if LIBAVFORMAT_VERSION_INT < AV_VERSION_INT(60, 15, 100)
  decltype(&::av_stream_get_side_data) av_stream_get_side_data;
#else
  decltype(&::av_packet_side_data_get) av_packet_side_data_get;
#endif
};

/// Loads the libraries at the first call. Throws Error that names the packages where they are not there, of the major
/// versions whose headers Bezel was compiled with.
const AvLibrary& av();

/// Whether they can be loaded.
bool has_av();

}  // namespace bezel::data
