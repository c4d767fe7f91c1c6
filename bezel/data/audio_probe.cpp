#include "bezel/data/audio_probe.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include <sndfile.h>

#include "bezel/error.h"
#include "bezel/gemma4/media_size.h"

namespace bezel::data {
namespace {

using SoundFile = std::unique_ptr<SNDFILE, int (*)(SNDFILE*)>;

struct Memory {
  std::string_view bytes;
  sf_count_t at = 0;
};

sf_count_t memory_size(void* user) { return static_cast<sf_count_t>(static_cast<Memory*>(user)->bytes.size()); }
sf_count_t memory_tell(void* user) { return static_cast<Memory*>(user)->at; }

sf_count_t memory_seek(sf_count_t offset, int whence, void* user) {
  auto& memory = *static_cast<Memory*>(user);
  const sf_count_t base = whence == SEEK_CUR ? memory.at : whence == SEEK_END ? memory_size(user) : 0;
  memory.at = std::clamp<sf_count_t>(base + offset, 0, memory_size(user));
  return memory.at;
}

sf_count_t memory_read(void* to, sf_count_t count, void* user) {
  auto& memory = *static_cast<Memory*>(user);
  const sf_count_t got = std::clamp<sf_count_t>(memory_size(user) - memory.at, 0, count);
  if (got > 0) std::memcpy(to, memory.bytes.data() + memory.at, static_cast<std::size_t>(got));
  memory.at += got;
  return got;
}

sf_count_t no_write(const void*, sf_count_t, void*) { return 0; }

std::int64_t samples_of(const SoundFile& file, const SF_INFO& info, std::int64_t max_samples, std::string_view name) {
  if (!file) throw Error(name, ": not a recording that can be read: ", sf_strerror(nullptr));
  if (info.samplerate <= 0 || info.frames <= 0) throw Error(name, ": a recording without samples");
  // Rounded up, so that what is decoded later is never longer than what was planned for.
  const double samples = static_cast<double>(info.frames) * gemma4::kAudioSampleRate / info.samplerate;
  return samples >= static_cast<double>(max_samples) ? max_samples : static_cast<std::int64_t>(samples) + 1;
}

}  // namespace

std::int64_t probe_audio_file(const std::string& path, std::int64_t max_samples, std::string_view name) {
  SF_INFO info{};
  const SoundFile file(sf_open(path.c_str(), SFM_READ, &info), &sf_close);
  return samples_of(file, info, max_samples, name);
}

std::int64_t probe_audio_bytes(std::string_view bytes, std::int64_t max_samples, std::string_view name) {
  SF_VIRTUAL_IO io{memory_size, memory_seek, memory_read, no_write, memory_tell};
  Memory memory{bytes};
  SF_INFO info{};
  const SoundFile file(sf_open_virtual(&io, SFM_READ, &info, &memory), &sf_close);
  return samples_of(file, info, max_samples, name);
}

}  // namespace bezel::data
