#include "bezel/input/media_size.h"

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::input {
namespace {

TEST(MediaSize, KeepsWithinTheBudgetAndOnMultiples) {
  for (const std::int64_t budget : {70, 140, 280, 560, 1120}) {
    for (std::int64_t height = 1; height < 4000; height = height * 3 / 2 + 7) {
      for (std::int64_t width = 3; width < 4000; width = width * 4 / 3 + 11) {
        const ImageSize size = resized_image_size(height, width, 16, budget, 3);
        ASSERT_GT(size.height, 0);
        ASSERT_GT(size.width, 0);
        ASSERT_EQ(size.height % 48, 0);
        ASSERT_EQ(size.width % 48, 0);
        ASSERT_LE(image_soft_tokens(height, width, 16, budget, 3), budget) << height << " x " << width;
      }
    }
  }
}

TEST(MediaSize, SquareOfTheBudgetStaysAsItIs) {
  // 4 x 70 tokens of 48 pixels: an exact fit, which rounding must not shrink.
  EXPECT_EQ(resized_image_size(4 * 48, 70 * 48), (ImageSize{4 * 48, 70 * 48}));
}

TEST(MediaSize, ThinImagesKeepOneRowOrColumn) {
  EXPECT_EQ(resized_image_size(1, 500), (ImageSize{48, 280 * 48}));  // 500 wished, 280 allowed
  EXPECT_EQ(resized_image_size(500, 1), (ImageSize{280 * 48, 48}));
  EXPECT_EQ(resized_image_size(2, 601), (ImageSize{48, 280 * 48}));
  EXPECT_EQ(image_soft_tokens(1, 500), 280);
}

TEST(MediaSize, RefusesSidesThatAreNotPositive) {
  EXPECT_THROW(resized_image_size(0, 10), Error);
  EXPECT_THROW(resized_image_size(10, -1), Error);
}

TEST(MediaSize, RefusesABudgetWithoutRoom) { EXPECT_THROW(resized_image_size(10, 10, 16, 0, 3), Error); }

/// Counts frames the slow way: place each window on the padded audio clip and look at its last sample.
struct Frames {
  std::int64_t all = 0, valid = 0, soft = 0;
};

Frames count_frames(std::int64_t num_samples) {
  std::int64_t padded = num_samples;
  while (padded % 128 != 0) ++padded;
  Frames frames;
  for (std::int64_t begin = -160; begin + 321 <= padded; begin += 160) {
    const bool valid = begin + 320 < num_samples;
    if (valid && frames.all % 4 == 0) ++frames.soft;
    frames.valid += valid;
    ++frames.all;
  }
  return frames;
}

TEST(MediaSize, AudioCountsEqualPlacingEveryWindow) {
  for (std::int64_t n = 0; n < 3000; ++n) {
    const Frames frames = count_frames(n);
    ASSERT_EQ(audio_num_frames(n), frames.all) << n;
    ASSERT_EQ(audio_valid_frames(n), frames.valid) << n;
    ASSERT_EQ(audio_soft_tokens(n), frames.soft) << n;
  }
}

TEST(MediaSize, LongAudioClipsAreCutAtThirtySeconds) {
  EXPECT_EQ(audio_soft_tokens(480000), 750);
  EXPECT_EQ(audio_soft_tokens(std::int64_t{1} << 60), 750);
  EXPECT_EQ(audio_num_frames(std::int64_t{1} << 60), audio_num_frames(480000));
  EXPECT_EQ(audio_soft_tokens(-5), 0);
}

TEST(MediaSize, SubsamplingTakesEveryFourthFrame) {
  for (std::int64_t frames = 0; frames < 100; ++frames) EXPECT_EQ(audio_subsampled_frames(frames), (frames + 3) / 4);
}

}  // namespace
}  // namespace bezel::input
