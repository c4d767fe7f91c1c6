#include "bezel/data/audio_decode.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include <fcntl.h>
#include <sndfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/data/audio_memory.h"
#include "bezel/data/audio_sink.h"
#include "bezel/data/av_sound.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr sf_count_t kBlockFrames = 16384;

using SoundFile = std::unique_ptr<SNDFILE, decltype(&sf_close)>;

std::vector<float> read_samples(SNDFILE* file, const SF_INFO& info, std::string_view source, std::int64_t max_samples) {
  AudioSink sink(info.samplerate, info.channels, max_samples, source);
  std::vector<float> frames(static_cast<std::size_t>(kBlockFrames * info.channels));
  bool is_empty = true;
  while (!sink.is_full()) {
    const sf_count_t count = std::clamp<sf_count_t>(sf_readf_float(file, frames.data(), kBlockFrames), 0, kBlockFrames);
    if (count == 0) break;
    is_empty = false;
    sink.add(frames, static_cast<std::size_t>(count));
  }
  if (!sink.is_full() && sf_error(file) != SF_ERR_NO_ERROR) {
    throw Error(source, ": audio clip is damaged: ", sf_strerror(file));
  }
  if (is_empty) throw Error(source, ": audio clip holds no samples");
  return sink.finish();
}

[[noreturn]] void throw_unreadable(std::string_view source) {
  throw Error(source, ": not an audio clip that Bezel reads (WAV, FLAC, MP3 or OGG",
              has_video_decoder() ? ", AAC in M4A, Opus in WebM" : "", "): ", sf_strerror(nullptr));
}

std::vector<float> decode_with_av(const MediaFile& file, std::int64_t max_samples) {
  std::optional<AudioSink> sink;
  int channels = 0, rate = 0;
  decode_av_sound(file, [&](const std::vector<float>& samples, int block_channels, int block_rate) {
    if (!sink) sink.emplace(rate = block_rate, channels = block_channels, max_samples, file.name);
    if (block_channels != channels || block_rate != rate)
      throw Error(file.name, ": audio clip whose rate or channels change on the way");
    sink->add(samples, samples.size() / static_cast<std::size_t>(channels));
    return !sink->is_full();
  });
  if (!sink) throw Error(file.name, ": audio clip holds no samples");
  return sink->finish();
}

}  // namespace

std::vector<float> decode_samples(std::span<const std::byte> bytes, std::string_view source, std::int64_t max_samples) {
  const MediaFile media{
      .path = "", .bytes = {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, .name = std::string(source)};
  if (is_av_sound(media)) return decode_with_av(media, max_samples);
  AudioMemory memory{bytes};
  SF_INFO info{};
  const SoundFile file(memory.open(info), sf_close);
  if (!file) throw_unreadable(source);
  return read_samples(file.get(), info, source, max_samples);
}

std::vector<float> decode_samples_file(const std::string& path, std::int64_t max_samples) {
  // Without O_NONBLOCK, opening a FIFO would wait for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw Error(ErrorKind::kIo, path, ": cannot open: ", std::strerror(errno));
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    throw Error(ErrorKind::kIo, path, ": not a regular file");
  }
  if (const MediaFile media{.path = path, .name = path}; is_av_sound(media)) {
    close(fd);
    return decode_with_av(media, max_samples);
  }
  SF_INFO info{};
  const SoundFile file(sf_open_fd(fd, SFM_READ, &info, SF_TRUE), sf_close);
  if (!file) throw_unreadable(path);  // sf_open_fd has closed fd
  return read_samples(file.get(), info, path, max_samples);
}

}  // namespace bezel::data
