#include "bezel/data/audio_probe.h"

#include <memory>

#include <sndfile.h>

#include "bezel/data/audio_memory.h"
#include "bezel/error.h"
#include "bezel/input/media_size.h"

namespace bezel::data {
namespace {

using SoundFile = std::unique_ptr<SNDFILE, int (*)(SNDFILE*)>;

AudioLength length_of(const SoundFile& file, const SF_INFO& info, std::int64_t max_samples, std::string_view name) {
  if (!file)
    throw Error(name, ": not an audio clip that Bezel reads (WAV, FLAC, MP3 or OGG): ", sf_strerror(nullptr),
                "; convert it: ffmpeg -i IN -ar 16000 OUT.wav");
  if (info.samplerate <= 0 || info.frames <= 0) throw Error(name, ": an audio clip without samples");
  // Rounded up, so that what is decoded later is never longer than what was planned for.
  const double samples = static_cast<double>(info.frames) * input::kAudioSampleRate / info.samplerate;
  const auto most = static_cast<double>(max_samples);
  return {samples >= most ? max_samples : static_cast<std::int64_t>(samples) + 1, samples > most};
}

}  // namespace

AudioLength probe_audio_file(const std::string& path, std::int64_t max_samples, std::string_view name) {
  SF_INFO info{};
  const SoundFile file(sf_open(path.c_str(), SFM_READ, &info), &sf_close);
  return length_of(file, info, max_samples, std::string(name) + ": media file '" + path + "'");
}

AudioLength probe_audio_bytes(std::string_view bytes, std::int64_t max_samples, std::string_view name) {
  AudioMemory memory{{reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}};
  SF_INFO info{};
  const SoundFile file(memory.open(info), &sf_close);
  return length_of(file, info, max_samples, name);
}

}  // namespace bezel::data
