#include "bezel/data/audio.h"

#include <cmath>
#include <complex>
#include <vector>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "support/media_files.h"

namespace bezel::data {
namespace {

std::vector<float> make_tone(std::int64_t num_samples) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < num_samples; ++i) {
    out.push_back(static_cast<float>(0.3 * std::sin(0.21 * i) + 0.1 * std::cos(1.7 * i)));
  }
  return out;
}

double mel_of(double hertz) { return 2595 * std::log10(1 + hertz / 700); }

/// One mel value the slow way: every term of the transform, and a triangle between three corners.
double naive_log_mel(const std::vector<float>& samples, std::int64_t frame, int mel) {
  const auto corner = [&](int i) { return 700 * (std::pow(10, mel_of(8000) * i / 129 / 2595) - 1); };
  double energy = 0;
  for (int bin = 0; bin <= 256; ++bin) {
    const double hertz = bin * 31.25;
    const double up = (hertz - corner(mel)) / (corner(mel + 1) - corner(mel));
    const double down = (corner(mel + 2) - hertz) / (corner(mel + 2) - corner(mel + 1));
    const double weight = std::min(up, down);
    if (weight <= 0) continue;
    std::complex<double> sum = 0;
    for (int i = 0; i < 320; ++i) {
      const std::int64_t at = frame * 160 - 160 + i;
      const double sample = at < 0 ? 0 : samples.at(static_cast<std::size_t>(at));
      sum += sample * (0.5 - 0.5 * std::cos(2 * M_PI * i / 320)) * std::polar(1.0, -2 * M_PI * bin * i / 512);
    }
    energy += weight * std::abs(sum);
  }
  return std::log(energy + 1e-3);
}

TEST(Audio, LogMelEqualsTheSlowSum) {
  const auto samples = make_tone(2000);
  const Media out = log_mel(torch::tensor(samples, torch::kFloat32));
  ASSERT_EQ(out.features.size(1), 128);
  for (const std::int64_t frame : {0, 1, 7, 11}) {
    for (const int mel : {0, 1, 5, 40, 90, 127}) {
      EXPECT_NEAR(out.features[frame][mel].item<double>(), naive_log_mel(samples, frame, mel), 1e-4)
          << frame << ' ' << mel;
    }
  }
}

TEST(Audio, FramesOverPaddingAreZeroAndMasked) {
  const Media out = log_mel(torch::tensor(make_tone(2200), torch::kFloat32));
  EXPECT_EQ(out.features.size(0), input::audio_num_frames(2200));
  const std::int64_t valid = input::audio_valid_frames(2200);
  ASSERT_LT(valid, out.features.size(0));
  EXPECT_EQ(out.layout.sum().item<std::int64_t>(), valid);
  EXPECT_TRUE(out.features.slice(0, valid).eq(0).all().item<bool>());
  EXPECT_TRUE(out.soft_index.equal(torch::arange(input::audio_soft_tokens(2200), torch::kInt64)));
}

TEST(Audio, WhatIsBeyondTheLimitDoesNotCount) {
  AudioSettings settings;
  settings.max_samples = 3200;
  const auto samples = torch::tensor(make_tone(5000), torch::kFloat32);
  EXPECT_TRUE(log_mel(samples, settings).features.equal(log_mel(samples.slice(0, 0, 3200)).features));
}

TEST(Audio, RawFramesAreTheSamplesWithZerosBehindThem) {
  AudioSettings settings;
  settings.frame_samples = 4;
  settings.max_samples = 9;
  const auto samples = torch::arange(1, 12, torch::kFloat32);
  const Media out = raw_frames(samples, settings);
  EXPECT_TRUE(out.features.equal(torch::tensor({{1.f, 2.f, 3.f, 4.f}, {5.f, 6.f, 7.f, 8.f}, {9.f, 0.f, 0.f, 0.f}})));
  EXPECT_TRUE(out.layout.all().item<bool>());
  EXPECT_EQ(out.num_soft_tokens, 3);
  EXPECT_TRUE(out.soft_index.equal(torch::arange(3)));
  const std::string wav = test::make_wav(1, 1, 16000, 16, test::pcm16({5}));
  EXPECT_EQ(load_audio(test::as_bytes(wav), "audio clip", settings).num_soft_tokens, 1);
}

TEST(Audio, TooShortForOneTokenIsAnError) {
  for (const int num_samples : {1, 160}) {
    const std::string wav = test::make_wav(1, 1, 16000, 16, test::pcm16(std::vector<std::int16_t>(num_samples, 5)));
    EXPECT_THROW(load_audio(test::as_bytes(wav), "audio clip", AudioSettings{}), Error) << num_samples;
  }
  const std::string wav = test::make_wav(1, 1, 16000, 16, test::pcm16(std::vector<std::int16_t>(161, 5)));
  EXPECT_EQ(load_audio(test::as_bytes(wav), "audio clip", AudioSettings{}).num_soft_tokens, 1);
}

}  // namespace
}  // namespace bezel::data
