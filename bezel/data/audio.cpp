#include "bezel/data/audio.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "bezel/error.h"
#include "bezel/input/media_size.h"
#include "bezel/kernels/vector_math.h"

namespace bezel::data {
namespace {

using input::kAudioFrameLength;
using input::kAudioHopLength;

constexpr std::int64_t kFftLength = 512, kNumBins = kFftLength / 2 + 1, kNumMels = 128;

double hertz_to_mel(double hertz) { return 2595.0 * std::log10(1.0 + hertz / 700.0); }
double mel_to_hertz(double mel) { return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0); }

/// Triangular filters with corners evenly spaced in (HTK) mel and sides straight in Hz, not normalized.
torch::Tensor mel_filters(double min_frequency, double max_frequency) {  // [bins, mels]
  std::vector<double> corners(kNumMels + 2);
  const double low = hertz_to_mel(min_frequency), high = hertz_to_mel(max_frequency);
  for (std::int64_t i = 0; i < kNumMels + 2; ++i) {
    corners[i] = mel_to_hertz(low + (high - low) * static_cast<double>(i) / (kNumMels + 1));
  }
  auto filters = torch::empty({kNumBins, kNumMels}, torch::kFloat64);
  auto out = filters.accessor<double, 2>();
  for (std::int64_t bin = 0; bin < kNumBins; ++bin) {
    const double hertz = static_cast<double>(bin * input::kAudioSampleRate) / kFftLength;
    for (std::int64_t mel = 0; mel < kNumMels; ++mel) {
      const double rising = (hertz - corners[mel]) / (corners[mel + 1] - corners[mel]);
      const double falling = (corners[mel + 2] - hertz) / (corners[mel + 2] - corners[mel + 1]);
      out[bin][mel] = std::max(0.0, std::min(rising, falling));
    }
  }
  return filters;
}

/// Raised cosine over one frame, as float32 because the reference rounds it so.
torch::Tensor hann_window() {  // [frame_length]
  const auto phase = torch::arange(kAudioFrameLength, torch::kFloat64) * (2.0 * M_PI / kAudioFrameLength);
  return (0.5 - 0.5 * phase.cos()).to(torch::kFloat32).to(torch::kFloat64);
}

/// Real samples from half a window of silence on, up to the last frame's end.
torch::Tensor pad_samples(const torch::Tensor& waveform, std::int64_t num_frames) {
  const std::int64_t length = (num_frames - 1) * kAudioHopLength + kAudioFrameLength;
  auto padded = torch::zeros({length}, torch::kFloat64);
  const std::int64_t kept = std::min(waveform.size(0), length - kAudioFrameLength / 2);
  padded.narrow(0, kAudioFrameLength / 2, kept).copy_(waveform.narrow(0, 0, kept));
  return padded;
}

Media frames_of(const torch::Tensor& waveform, std::string_view source, const AudioSettings& settings) {
  const bool raw = settings.frame_samples > 0;
  Media frames = raw ? raw_frames(waveform, settings) : log_mel(waveform, settings);
  if (frames.num_soft_tokens > 0) return frames;
  throw Error(source, ": audio clip of ", waveform.size(0), " samples at 16 kHz, at least ",
              raw ? 1 : kAudioFrameLength / 2 + 1, " are needed for one soft token");
}

torch::Tensor as_tensor(const std::vector<float>& samples) { return torch::tensor(samples, torch::kFloat32); }

}  // namespace

torch::Tensor decode_audio(std::span<const std::byte> bytes, std::string_view source, const AudioSettings& settings) {
  return as_tensor(decode_samples(bytes, source, settings.max_samples));
}

Media log_mel(const torch::Tensor& waveform, const AudioSettings& settings) {
  TORCH_CHECK(waveform.dim() == 1 && waveform.scalar_type() == torch::kFloat32, "log_mel: expected float32 [N], got ",
              waveform.scalar_type(), " ", waveform.sizes());
  const torch::NoGradGuard no_grad;
  const std::int64_t num_samples = std::min(waveform.size(0), settings.max_samples);
  const std::int64_t num_frames = input::audio_num_frames(num_samples);
  const std::int64_t num_valid = input::audio_valid_frames(num_samples);
  Media out{.kind = MediaKind::kAudio, .num_soft_tokens = input::audio_soft_tokens(num_samples)};
  out.layout = torch::arange(num_frames, torch::kInt64) < num_valid;     // [F]
  out.soft_index = torch::arange(out.num_soft_tokens, torch::kInt64);    // [M]
  out.features = torch::zeros({num_frames, kNumMels}, torch::kFloat32);  // [F, mels]
  if (num_valid == 0) return out;
  const auto samples = pad_samples(waveform.narrow(0, 0, num_samples) * settings.input_scale_factor, num_frames);
  const auto frames = samples.unfold(0, kAudioFrameLength, kAudioHopLength) * hann_window();  // [F, frame_length]
  const auto magnitude = at::fft_rfft(frames, kFftLength, -1).abs();                          // [F, bins]
  const auto mel = magnitude.matmul(mel_filters(settings.min_frequency, settings.max_frequency));
  kernels::prepare_vector_math();
  const auto log_mels = (mel + settings.mel_floor).log();
  out.features.narrow(0, 0, num_valid).copy_(log_mels.narrow(0, 0, num_valid));
  return out;
}

Media raw_frames(const torch::Tensor& waveform, const AudioSettings& settings) {
  TORCH_CHECK(waveform.dim() == 1 && waveform.scalar_type() == torch::kFloat32 && settings.frame_samples > 0,
              "raw_frames: expected float32 [N] and a size of frames, got ", waveform.scalar_type(), " ",
              waveform.sizes(), " and ", settings.frame_samples);
  const std::int64_t num_samples = std::min(waveform.size(0), settings.max_samples), size = settings.frame_samples;
  const std::int64_t num_frames = input::audio_frame_tokens(num_samples, size);
  Media out{.kind = MediaKind::kAudio, .num_soft_tokens = num_frames};
  out.features = torch::zeros({num_frames, size}, torch::kFloat32);  // [F, samples]
  out.features.flatten().narrow(0, 0, num_samples).copy_(waveform.narrow(0, 0, num_samples));
  out.layout = torch::ones({num_frames}, torch::kBool);       // [F]
  out.soft_index = torch::arange(num_frames, torch::kInt64);  // [M]
  return out;
}

Media load_audio(std::span<const std::byte> bytes, std::string_view source, const AudioSettings& settings) {
  return frames_of(decode_audio(bytes, source, settings), source, settings);
}

Media load_audio(const std::string& path, const AudioSettings& settings) {
  return frames_of(as_tensor(decode_samples_file(path, settings.max_samples)), path, settings);
}

}  // namespace bezel::data
