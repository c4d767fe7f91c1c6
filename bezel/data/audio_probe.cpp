#include "bezel/data/audio_probe.h"

#include <memory>

#include <sndfile.h>

#include "bezel/data/audio_memory.h"
#include "bezel/data/av_sound.h"
#include "bezel/error.h"
#include "bezel/input/media_size.h"

namespace bezel::data {
namespace {

using ProbedFile = std::unique_ptr<SNDFILE, int (*)(SNDFILE*)>;

AudioLength length_of(std::int64_t frames, int rate, std::int64_t max_samples, std::string_view name) {
  if (rate <= 0 || frames <= 0) throw Error(name, ": an audio clip without samples");
  // Rounded up, so that what is decoded later is never longer than what was planned for.
  const double samples = static_cast<double>(frames) * input::kAudioSampleRate / rate;
  const auto most = static_cast<double>(max_samples);
  return {samples >= most ? max_samples : static_cast<std::int64_t>(samples) + 1, samples > most};
}

AudioLength length_of(const MediaFile& file, std::int64_t max_samples) {
  const AvSoundLength length = probe_av_sound(file, max_samples / input::kAudioSampleRate + 1);
  return length_of(length.frames, length.rate, max_samples, file.name);
}

AudioLength length_of(const ProbedFile& file, const SF_INFO& info, std::int64_t max_samples, std::string_view name) {
  if (!file)
    throw Error(name, ": not an audio clip that Bezel reads (WAV, FLAC, MP3 or OGG",
                has_video_decoder() ? ", AAC in M4A, Opus in WebM" : "", "): ", sf_strerror(nullptr),
                "; convert it: ffmpeg -i IN -ar 16000 OUT.wav");
  return length_of(info.frames, info.samplerate, max_samples, name);
}

}  // namespace

AudioLength probe_audio_file(const std::string& path, std::int64_t max_samples, std::string_view name) {
  const std::string where = std::string(name) + ": media file '" + path + "'";
  if (const MediaFile file{.path = path, .name = where}; is_av_sound(file)) return length_of(file, max_samples);
  SF_INFO info{};
  const ProbedFile file(sf_open(path.c_str(), SFM_READ, &info), &sf_close);
  return length_of(file, info, max_samples, where);
}

AudioLength probe_audio_bytes(std::string_view bytes, std::int64_t max_samples, std::string_view name) {
  if (const MediaFile file{.path = "", .bytes = bytes, .name = std::string(name)}; is_av_sound(file))
    return length_of(file, max_samples);
  AudioMemory memory{{reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}};
  SF_INFO info{};
  const ProbedFile file(memory.open(info), &sf_close);
  return length_of(file, info, max_samples, name);
}

}  // namespace bezel::data
