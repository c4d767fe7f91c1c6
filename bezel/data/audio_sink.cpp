#include "bezel/data/audio_sink.h"

#include <algorithm>
#include <cmath>

#include <soxr.h>

#include "bezel/error.h"
#include "bezel/input/media_size.h"

namespace bezel::data {
namespace {

constexpr int kMinRate = 1000, kMaxRate = 768000, kMaxChannels = 64;

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

}  // namespace

void AudioSink::FreeResampler::operator()(soxr* resampler) const { soxr_delete(resampler); }

AudioSink::AudioSink(int rate, int channels, std::int64_t max_samples, std::string_view source)
    : rate_(rate), channels_(channels), max_samples_(max_samples), source_(source) {
  if (rate < kMinRate || rate > kMaxRate)
    throw Error(source, ": audio clip at ", rate, " Hz, expected ", kMinRate, " to ", kMaxRate, " Hz");
  if (channels < 1 || channels > kMaxChannels)
    throw Error(source, ": audio clip of ", channels, " channels, expected 1 to ", kMaxChannels);
  if (rate == input::kAudioSampleRate) return;
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  soxr_error_t error = nullptr;
  resampler_.reset(soxr_create(rate, input::kAudioSampleRate, 1, &error, &io, &quality, nullptr));
  if (error != nullptr) throw Error(source_, ": cannot resample from ", rate, " Hz: ", error);
}

void AudioSink::add(const std::vector<float>& frames, std::size_t num_frames) {
  mono_.resize(num_frames);
  mix_to_mono(frames, channels_, mono_, source_);
  num_frames_ += static_cast<std::int64_t>(num_frames);
  if (!resampler_) {
    samples_.insert(samples_.end(), mono_.begin(), mono_.end());
  } else if (!mono_.empty()) {
    process(mono_.data(), mono_.size());
  }
}

std::vector<float> AudioSink::finish() {
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

std::size_t AudioSink::process(const float* in, std::size_t count) {
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
  // Sums of values near the largest float may be infinite or NaN.
  if (!std::ranges::all_of(samples_.begin() + static_cast<std::ptrdiff_t>(before), samples_.end(),
                           [](float sample) { return std::isfinite(sample); }))
    throw Error(source_, ": audio clip has samples too large to resample");
  return total;
}

}  // namespace bezel::data
