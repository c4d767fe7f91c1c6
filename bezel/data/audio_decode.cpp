#include "bezel/data/audio_decode.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sndfile.h>
#include <soxr.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/data/audio_memory.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr int kMinRate = 1000, kMaxRate = 768000, kMaxChannels = 64;
constexpr sf_count_t kBlockFrames = 16384;

using SoundFile = std::unique_ptr<SNDFILE, decltype(&sf_close)>;
using Resampler = std::unique_ptr<soxr, decltype(&soxr_delete)>;

void check_format(const SF_INFO& info, std::string_view source) {
  if (info.samplerate < kMinRate || info.samplerate > kMaxRate) {
    throw Error(source, ": audio clip at ", info.samplerate, " Hz, expected ", kMinRate, " to ", kMaxRate, " Hz");
  }
  if (info.channels < 1 || info.channels > kMaxChannels) {
    throw Error(source, ": audio clip of ", info.channels, " channels, expected 1 to ", kMaxChannels);
  }
}

/// Averages interleaved channels, summing in float as numpy does. Throws on a sample that is not finite.
void mix_to_mono(const std::vector<float>& frames, int channels, std::vector<float>& mono, std::string_view source) {
  for (std::size_t i = 0; i < mono.size(); ++i) {
    const float* frame = frames.data() + i * static_cast<std::size_t>(channels);
    float sum = frame[0];
    for (int c = 1; c < channels; ++c) sum += frame[c];
    mono[i] = sum / static_cast<float>(channels);
    if (!std::isfinite(mono[i])) throw Error(source, ": audio clip has a sample that is not a finite number");
  }
}

/// Brings blocks of mono samples to 16 kHz.
class MonoSink {
 public:
  MonoSink(int rate, std::int64_t max_samples, std::string_view source)
      : rate_(rate), max_samples_(max_samples), source_(source), resampler_(nullptr, soxr_delete) {
    if (rate == input::kAudioSampleRate) return;
    const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    soxr_error_t error = nullptr;
    resampler_.reset(soxr_create(rate, input::kAudioSampleRate, 1, &error, &io, &quality, nullptr));
    if (error != nullptr) throw Error(source_, ": cannot resample from ", rate, " Hz: ", error);
  }

  bool is_full() const { return static_cast<std::int64_t>(samples_.size()) >= max_samples_; }

  void add(const std::vector<float>& mono) {
    num_frames_ += static_cast<std::int64_t>(mono.size());
    if (!resampler_) {
      samples_.insert(samples_.end(), mono.begin(), mono.end());
    } else if (!mono.empty()) {
      process(mono.data(), mono.size());
    }
  }

  /// What came out, of the length that the rates call for, cut to max_samples.
  std::vector<float> finish() {
    if (resampler_ && !is_full()) {
      while (process(nullptr, 0) > 0 && !is_full()) {
      }
    }
    if (resampler_ && !is_full()) {
      const double length = static_cast<double>(num_frames_) * input::kAudioSampleRate / rate_;
      samples_.resize(static_cast<std::size_t>(std::ceil(length)));
    }
    if (is_full()) samples_.resize(static_cast<std::size_t>(max_samples_));
    return std::move(samples_);
  }

 private:
  /// Null flushes. Returns the number of samples that came out.
  std::size_t process(const float* in, std::size_t count) {
    const double ratio = static_cast<double>(input::kAudioSampleRate) / rate_;
    const std::size_t capacity = static_cast<std::size_t>(static_cast<double>(count) * ratio) + 4096;
    const std::size_t before = samples_.size();
    std::size_t total = 0, out = 0;
    do {
      samples_.resize(before + total + capacity);
      std::size_t used = 0;
      const soxr_error_t error =
          soxr_process(resampler_.get(), in, count, &used, samples_.data() + before + total, capacity, &out);
      if (error != nullptr) throw Error(source_, ": resampling failed: ", error);
      if (used == 0 && out == 0) break;
      total += out;
      if (in != nullptr) {
        in += used;
        count -= used;
      }
    } while (count > 0 || out == capacity);
    samples_.resize(before + total);
    // Sums of numbers near float's largest may be none.
    if (!std::ranges::all_of(samples_.begin() + static_cast<std::ptrdiff_t>(before), samples_.end(),
                             [](float sample) { return std::isfinite(sample); }))
      throw Error(source_, ": audio clip has samples too large to resample");
    return total;
  }

  int rate_;
  std::int64_t max_samples_;
  std::string_view source_;
  Resampler resampler_;
  std::vector<float> samples_;
  std::int64_t num_frames_ = 0;
};

std::vector<float> read_samples(SNDFILE* file, const SF_INFO& info, std::string_view source, std::int64_t max_samples) {
  check_format(info, source);
  MonoSink sink(info.samplerate, max_samples, source);
  std::vector<float> frames(static_cast<std::size_t>(kBlockFrames * info.channels));
  std::vector<float> mono;
  bool is_empty = true;
  while (!sink.is_full()) {
    const sf_count_t count = std::clamp<sf_count_t>(sf_readf_float(file, frames.data(), kBlockFrames), 0, kBlockFrames);
    if (count == 0) break;
    is_empty = false;
    mono.resize(static_cast<std::size_t>(count));
    mix_to_mono(frames, info.channels, mono, source);
    sink.add(mono);
  }
  if (!sink.is_full() && sf_error(file) != SF_ERR_NO_ERROR) {
    throw Error(source, ": audio clip is damaged: ", sf_strerror(file));
  }
  if (is_empty) throw Error(source, ": audio clip holds no samples");
  return sink.finish();
}

[[noreturn]] void throw_unreadable(std::string_view source) {
  throw Error(source, ": not an audio clip that Bezel reads (WAV, FLAC, MP3 or OGG): ", sf_strerror(nullptr));
}

}  // namespace

std::vector<float> decode_samples(std::span<const std::byte> bytes, std::string_view source, std::int64_t max_samples) {
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
  SF_INFO info{};
  const SoundFile file(sf_open_fd(fd, SFM_READ, &info, SF_TRUE), sf_close);
  if (!file) throw_unreadable(path);  // sf_open_fd has closed fd
  return read_samples(file.get(), info, path, max_samples);
}

}  // namespace bezel::data
