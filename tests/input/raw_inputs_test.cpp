#include "bezel/input/raw_inputs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"

namespace bezel::input {
namespace {

TEST(MakeBatch, RefusesPaddingBetweenRealTokens) {
  RawInputs raw;
  raw.input_ids = torch::ones({3, 4}, at::kLong);
  raw.attention_mask = torch::tensor({{0, 0, 1, 1}, {0, 1, 1, 0}, {1, 1, 1, 0}});
  EXPECT_EQ(make_batch(raw, {}, 3).num_tokens, 7);
  raw.attention_mask[2] = torch::tensor({1, 0, 1, 1});
  try {
    make_batch(raw, {}, 3);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'attention_mask': row 2 has padding between"), std::string::npos);
  }
}

TEST(MakeBatch, DropsLabelsThatPaddingWouldPredict) {
  RawInputs raw;
  raw.input_ids = torch::tensor({{0, 0, 5, 6}, {5, 6, 7, 0}}, at::kLong);
  raw.attention_mask = torch::tensor({{0, 0, 1, 1}, {1, 1, 1, 0}});
  raw.labels = raw.input_ids.clone();  // the second row's padding is no label, the first row's is one by mistake
  raw.labels[1][3] = kIgnoreLabel;
  const Batch batch = make_batch(raw, {}, 3);
  EXPECT_EQ(batch.num_unpredictable, 2);  // 0 and 5 of the first row
  EXPECT_TRUE(batch.label_ids.equal(torch::tensor({6, 6, 7}, at::kLong)));
  EXPECT_TRUE(batch.label_flat_index.equal(torch::tensor({2, 4, 5}, at::kLong)));
}

// An image of 2 x 1 windows between two audio clips, whose placeholders are their own.
TEST(MakeBatch, MediaComeInTheOrderOfTheirPlaceholders) {
  constexpr int kImage = 60, kAudio = 61, kVideo = 62;
  RawInputs raw;
  raw.input_ids = torch::tensor({{2, kAudio, 5, kImage, kImage, 7}, {2, kVideo, kAudio, kAudio, kAudio, kVideo}});
  raw.pixel_values = torch::rand({1, 2, 3});
  raw.image_position_ids = torch::tensor({{{0, 0}, {1, 0}}});
  raw.input_features = torch::rand({2, 12, 128});
  raw.input_features_mask = torch::arange(12).expand({2, 12}) < torch::tensor({{1}, {12}});
  raw.pixel_values_videos = torch::rand({2, 2, 3});  // two frames of one patch
  raw.video_position_ids = torch::tensor({{{0, 0}, {-1, -1}}, {{0, 0}, {-1, -1}}});
  const Batch batch = make_batch(raw, {{{kImage, kAudio, kVideo}}}, /*pooling=*/1);
  ASSERT_EQ(batch.media.size(), 5u);
  EXPECT_EQ(batch.media[0].kind, MediaKind::kAudio);
  EXPECT_EQ(batch.media[0].num_soft_tokens, 1);
  EXPECT_TRUE(batch.media[0].features.equal(raw.input_features[0]));
  EXPECT_EQ(batch.media[1].kind, MediaKind::kImage);
  EXPECT_EQ(batch.media[1].num_soft_tokens, 2);
  EXPECT_EQ(batch.media[2].kind, MediaKind::kVideo);
  EXPECT_TRUE(batch.media[2].features.equal(raw.pixel_values_videos[0].narrow(0, 0, 1)));
  EXPECT_TRUE(batch.media[3].features.equal(raw.input_features[1]));
  EXPECT_EQ(batch.media[3].num_soft_tokens, 3);
  EXPECT_TRUE(batch.media[4].features.equal(raw.pixel_values_videos[1].narrow(0, 0, 1))) << "each frame by itself";
  EXPECT_TRUE(batch.soft_rows.equal(torch::tensor({1, 3, 4, 7, 8, 9, 10, 11})));
  EXPECT_TRUE(batch.placeholder_rows.equal(batch.soft_rows));
  EXPECT_TRUE(batch.mm_token_type_ids.equal(torch::tensor({{0, 3, 0, 1, 1, 0}, {0, 2, 3, 3, 3, 2}})));
  EXPECT_EQ(batch.kinds(), (PerKind<bool>{{true, true, true}}));
}

TEST(MakeBatch, PlaceholdersAndSoftTokensMustMatchByKind) {
  RawInputs raw;
  raw.input_ids = torch::tensor({{2, 60, 61}});
  raw.pixel_values = torch::rand({1, 2, 3});
  raw.image_position_ids = torch::tensor({{{0, 0}, {1, 0}}});
  try {
    make_batch(raw, {{{60, 61, 62}}}, /*pooling=*/1);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the text holds 1 image placeholder tokens, but the image inputs make 2 soft tokens");
  }
}

}  // namespace
}  // namespace bezel::input
