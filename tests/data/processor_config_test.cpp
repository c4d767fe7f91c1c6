#include "bezel/data/processor_config.h"

#include <fstream>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

MediaSettings read(const std::string& text, const char* name = "processor_config.json") {
  const test::TempFolder folder;
  std::ofstream(folder / name) << text;
  return read_processor_config(folder.path());
}

TEST(ProcessorConfig, DefaultsWithoutAFile) {
  const test::TempFolder folder;
  const MediaSettings settings = read_processor_config(folder.path());
  EXPECT_EQ(settings.image.max_soft_tokens, 280);
  EXPECT_EQ(settings.image.patch_size, 16);
  EXPECT_DOUBLE_EQ(settings.audio.mel_floor, 1e-3);
}

TEST(ProcessorConfig, ReadsBothSections) {
  const MediaSettings settings = read(
      R"({"image_processor": {"max_soft_tokens": 560, "resample": 3, "do_normalize": false},
          "feature_extractor": {"mel_floor": 0.01, "feature_size": 128, "per_bin_mean": null}, "other": 1})");
  EXPECT_EQ(settings.image.max_soft_tokens, 560);
  EXPECT_DOUBLE_EQ(settings.audio.mel_floor, 0.01);
}

gemma4::ModelConfig unified_model() {
  gemma4::ModelConfig config;
  config.family = gemma4::Family::kGemma4Unified;
  config.text.max_position_embeddings = 1000;
  config.vision =
      gemma4::VisionConfig{.num_layers = 0, .patch_size = 48, .pooling_kernel_size = 1, .position_embedding_size = 280};
  config.audio = gemma4::AudioConfig{.hidden_size = 640, .num_layers = 0};
  return config;
}

TEST(ProcessorConfig, TheUnifiedModelCutsPatchesAndFramesAsLargeAsSoftTokens) {
  const std::string text = R"({"image_processor": {"patch_size": 16, "pooling_kernel_size": 3, "max_soft_tokens": 140},
      "feature_extractor": {"feature_size": 640, "audio_samples_per_token": 640, "sampling_rate": 16000}})";
  const test::TempFolder folder, empty;
  std::ofstream(folder / "processor_config.json") << text;
  for (const bool without_file : {false, true}) {
    const MediaSettings settings = media_settings((without_file ? empty : folder).path().string(), unified_model());
    EXPECT_EQ(settings.image.patch_size, 48);
    EXPECT_EQ(settings.image.pooling, 1);
    EXPECT_EQ(settings.image.max_soft_tokens, without_file ? 280 : 140);
    EXPECT_EQ(settings.audio.frame_samples, 640);
    EXPECT_EQ(settings.audio.max_samples, 640000);
    EXPECT_EQ(settings.max_soft_tokens(input::MediaKind::kAudio), 1000);
    EXPECT_EQ(settings.rows_per_soft_token(input::MediaKind::kImage), 1);
  }
}

TEST(ProcessorConfig, RefusesAProcessorOfAnotherModelThanTheUnifiedOne) {
  const auto error_with = [](const std::string& text) {
    const test::TempFolder folder;
    std::ofstream(folder / "processor_config.json") << text;
    return test::error_of([&] { media_settings(folder.path().string(), unified_model()); });
  };
  EXPECT_TRUE(test::says(error_with(R"({"image_processor": {"patch_size": 14}})"), "patches with a side of 42"));
  EXPECT_TRUE(test::says(error_with(R"({"image_processor": {"max_soft_tokens": 560}})"), "mm_posemb_size"));
  EXPECT_TRUE(test::says(error_with(R"({"feature_extractor": {"feature_size": 128}})"), "feature_size"));
  EXPECT_TRUE(test::says(error_with(R"({"feature_extractor": {"feature_size": 320, "audio_samples_per_token": 320}})"),
                         "frames of 320"));
}

TEST(ProcessorConfig, ReadsThePreprocessorForm) {
  EXPECT_EQ(
      read(R"({"image_processor_type": "x", "max_soft_tokens": 70})", "preprocessor_config.json").image.max_soft_tokens,
      70);
}

TEST(ProcessorConfig, ReadsTheVideoSection) {
  const VideoSettings usual = read("{}").video;
  EXPECT_EQ(usual.num_frames, 32);
  EXPECT_EQ(usual.frame.max_soft_tokens, 70);
  EXPECT_FALSE(usual.fps);
  const VideoSettings given = read(R"({"video_processor": {"num_frames": 8, "max_soft_tokens": 140, "fps": 3}})").video;
  EXPECT_EQ(given.num_frames, 8);
  EXPECT_EQ(given.frame.max_soft_tokens, 140);
  EXPECT_FALSE(given.fps) << "num_frames wins where both are there";
  EXPECT_EQ(read(R"({"video_processor": {"num_frames": null, "fps": 2}})").video.fps, 2.0);
  EXPECT_TRUE(read(R"({"video_processor": {"do_sample_frames": false}})").video.takes_all);
  EXPECT_EQ(read(R"({"num_frames": 4})", "video_preprocessor_config.json").video.num_frames, 4);
}

TEST(ProcessorConfig, RefusesWhatItCannotFollow) {
  for (const char* bad :
       {R"({"image_processor": {"max_soft_tokens": 100}})", R"({"image_processor": {"max_soft_tokens": -70}})",
        R"({"image_processor": {"do_resize": false}})", R"({"image_processor": {"resample": 2}})",
        R"({"image_processor": {"do_normalize": true, "image_mean": [0.5, 0.5, 0.5]}})",
        R"({"image_processor": {"patch_size": 0}})", R"({"video_processor": {"max_soft_tokens": 100}})",
        R"({"video_processor": {"num_frames": 0}})", R"({"video_processor": {"num_frames": null, "fps": 0}})",
        R"({"feature_extractor": {"sampling_rate": 8000}})", R"({"feature_extractor": {"per_bin_mean": [1.0]}})",
        R"({"feature_extractor": {"fft_overdrive": true}})", R"({"feature_extractor": {"mel_floor": "x"}})", R"([])"}) {
    EXPECT_THROW(read(bad), Error) << bad;
  }
}

// Not taken for a folder without one, whose defaults may be others.
TEST(ProcessorConfig, ALinkThatLeadsNowhereIsNamed) {
  const test::TempFolder folder;
  for (const char* target : {"nowhere", "processor_config.json"}) {
    std::filesystem::create_symlink(target, folder / "processor_config.json");
    EXPECT_TRUE(test::says(test::error_of([&] { read_processor_config(folder.path().string()); }),
                           folder / "processor_config.json"));
    std::filesystem::remove(folder / "processor_config.json");
  }
}

TEST(ProcessorConfig, BudgetOfTheTrainingConfigIsChecked) {
  EXPECT_NO_THROW(check_image_budget(1120));
  try {
    check_image_budget(281);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  }
}

}  // namespace
}  // namespace bezel::data
