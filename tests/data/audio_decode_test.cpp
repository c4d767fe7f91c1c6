#include "bezel/data/audio_decode.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bezel/error.h"
#include "support/media_files.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::as_bytes;
constexpr int kPcm = 1, kFloat = 3;

std::vector<float> decode(const std::string& file, std::int64_t max_samples = input::kMaxAudioSamples) {
  return decode_samples(as_bytes(file), "audio clip", max_samples);
}

TEST(AudioDecode, SamplesAsStored) {
  EXPECT_EQ(decode(test::make_wav(kPcm, 1, 16000, 16, test::pcm16({0, 16384, -32768}))),
            (std::vector<float>{0.0f, 0.5f, -1.0f}));
}

TEST(AudioDecode, ChannelsAreAveraged) {
  std::vector<std::int16_t> frames;
  for (int frame = 0; frame < 10; ++frame) {
    for (int channel = 0; channel < 8; ++channel) frames.push_back(static_cast<std::int16_t>(channel * 2048));
  }
  EXPECT_EQ(decode(test::make_wav(kPcm, 8, 16000, 16, test::pcm16(frames))), std::vector<float>(10, 3.5f / 16));
}

TEST(AudioDecode, ResamplingKeepsAToneAndItsLength) {
  for (const int rate : {8000, 11025, 44100, 48000, 96000}) {
    std::vector<float> tone(static_cast<std::size_t>(rate / 2 + 7));
    for (std::size_t i = 0; i < tone.size(); ++i)
      tone[i] = static_cast<float>(0.5 * std::sin(2 * M_PI * 440 * i / rate));
    const auto out = decode(test::make_wav(kFloat, 1, rate, 32, test::float32(tone)));
    ASSERT_EQ(out.size(), static_cast<std::size_t>(std::ceil(tone.size() * 16000.0 / rate)));
    for (std::size_t i = 500; i + 500 < out.size(); ++i) {
      ASSERT_NEAR(out[i], 0.5 * std::sin(2 * M_PI * 440 * i / 16000.0), 1e-4) << rate << " Hz, sample " << i;
    }
  }
}

TEST(AudioDecode, StopsAtTheLimit) {
  const std::string data(2 * 50000, '\1');
  EXPECT_EQ(decode(test::make_wav(kPcm, 1, 16000, 16, data), 1234).size(), 1234u);
  EXPECT_EQ(decode(test::make_wav(kPcm, 1, 44100, 16, data), 1234).size(), 1234u);
}

TEST(AudioDecode, ClaimedSizeIsNotTrusted) {
  const std::string data = test::pcm16(std::vector<std::int16_t>(28, 100));
  EXPECT_LE(decode(test::make_wav(kPcm, 1, 16000, 16, data, 0xffffffffu)).size(), 28u);
}

TEST(AudioDecode, RefusesWhatIsNoAudioClip) {
  const std::string samples = test::pcm16({1, 2, 3, 4});
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::string& bad :
       {std::string(), std::string("hello"), test::make_wav(kPcm, 1, 16000, 16, ""),
        test::make_wav(kPcm, 1, 0x7fffffff, 16, samples), test::make_wav(kPcm, 1, 0, 16, samples),
        test::make_wav(kPcm, 1, 10, 16, samples), test::make_wav(kPcm, 0, 16000, 16, samples),
        test::make_wav(kPcm, 500, 16000, 16, std::string(2000, 'x')),
        test::make_wav(kFloat, 1, 16000, 32, test::float32({0.1f, nan, 0.2f})),
        test::make_wav(kFloat, 2, 16000, 32, test::float32({inf, -inf})),
        test::make_wav(kFloat, 1, 8000, 32, test::float32(std::vector<float>(400, 3.4e38f))),
        std::string("fLaC\0\0\0\x22", 8)}) {
    EXPECT_THROW(decode(bad), Error) << bad.size() << " bytes";
  }
}

TEST(AudioDecode, TruncatedFilesNeverCrash) {
  const std::string wav = test::make_wav(kPcm, 2, 44100, 16, std::string(400, '\3'));
  for (std::size_t size = 0; size < wav.size(); ++size) {
    try {
      EXPECT_LE(decode(wav.substr(0, size)).size(), 40u);
    } catch (const Error&) {
    }
  }
}

TEST(AudioDecode, FilesAreReadAndFifosAreNot) {
  const test::TempFolder folder;
  const std::string wav = test::make_wav(kPcm, 1, 16000, 16, test::pcm16({0, 16384}));
  std::ofstream(folder / "a.mp3", std::ios::binary) << wav;  // the extension says nothing
  EXPECT_EQ(decode_samples_file(folder / "a.mp3"), (std::vector<float>{0.0f, 0.5f}));
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_THROW(decode_samples_file(folder / "fifo"), Error);
  EXPECT_THROW(decode_samples_file(folder / "missing"), Error);
  EXPECT_THROW(decode_samples_file(folder.path()), Error);
}

}  // namespace
}  // namespace bezel::data
