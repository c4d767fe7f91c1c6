#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

struct soxr;

namespace bezel::data {

/// Takes blocks of interleaved samples, averages the channels and brings them to 16 kHz, as soundfile + soxr (HQ) do.
class AudioSink {
 public:
  /// Throws Error starting with `source` on a rate outside 1000..768000 Hz and more than 64 channels. `source` must
  /// outlive the sink.
  AudioSink(int rate, int channels, std::int64_t max_samples, std::string_view source);

  bool is_full() const { return static_cast<std::int64_t>(samples_.size()) >= max_samples_; }

  /// Samples of all channels in turn. Throws Error on one that is not finite.
  void add(const std::vector<float>& frames, std::size_t num_frames);

  /// What came out, of the length that the rates call for, cut to max_samples.
  std::vector<float> finish();

 private:
  struct FreeResampler {
    void operator()(soxr* resampler) const;
  };

  /// Null flushes. Returns the number of samples that came out.
  std::size_t process(const float* in, std::size_t count);

  int rate_;
  int channels_;
  std::int64_t max_samples_;
  std::string_view source_;
  std::unique_ptr<soxr, FreeResampler> resampler_;
  std::vector<float> mono_;
  std::vector<float> samples_;
  std::int64_t num_frames_ = 0;
};

}  // namespace bezel::data
