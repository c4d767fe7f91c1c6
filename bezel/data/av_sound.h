#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bezel/data/video_decode.h"

/// Audio that libsndfile does not read: AAC in M4A, MP4 and MOV, Opus and Vorbis in WebM and Matroska, raw AAC (ADTS).
namespace bezel::data {

struct AvSoundLength {
  std::int64_t frames = 0;  ///< samples of one channel, an upper bound; counting stops above `max_seconds`
  int rate = 0;             ///< Hz
};

/// Whether FFmpeg's libraries are there and `file` begins as one of these containers.
bool is_av_sound(const MediaFile& file);

/// Length by the packets, none of which is decoded. Throws Error on a file without audio or beyond recovery.
AvSoundLength probe_av_sound(const MediaFile& file, std::int64_t max_seconds);

/// Takes blocks of interleaved samples; `rate` and `channels` are the same for all. Returns false to end.
using AvSoundSink = std::function<bool(const std::vector<float>& samples, int channels, int rate)>;

/// Decodes the audio of `file` from its begin. Throws Error as above and on a damaged packet.
void decode_av_sound(const MediaFile& file, const AvSoundSink& sink);

}  // namespace bezel::data
