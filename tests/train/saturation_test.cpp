#include "bezel/train/saturation.h"

#include <gtest/gtest.h>

#include "bezel/data/dataset.h"
#include "bezel/gemma4/load.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

NextMediaSample example_data(const char* file, const gemma4::ModelConfig& config) {
  const auto tokenizer =
      std::make_shared<const data::Tokenizer>(data::Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json"));
  data::DatasetOptions options;
  options.file = BEZEL_EXAMPLE_DATA "/" + std::string(file);
  options.media.image.patch_size = config.vision->patch_size;
  options.media.image.pooling = config.vision->pooling_kernel_size;
  options.media.image.max_soft_tokens = 4;
  options.ids.of[input::MediaKind::kImage] = tokenizer->token_id("<|image|>").value();
  options.ids.of[input::MediaKind::kAudio] = tokenizer->token_id("<|audio|>").value();
  const auto data = std::make_shared<const data::Dataset>(options, tokenizer);
  return [data, idx = std::size_t{0}](const input::PerKind<bool>&) mutable -> std::optional<data::Batch> {
    if (idx == data->size()) return std::nullopt;
    const std::vector<data::Sample> sample = {data->load(idx++)};
    return data::collate(sample, 0);
  };
}

TEST(Saturation, CountsTheTowersThatSeeMediaAndLeavesTheModelAsItWas) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());  // bounds -1 … 0.9
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {}}).model;
  model->train();
  const auto layers = measure_saturation(model, example_data("media_parts.jsonl", model->config()), torch::kCPU);
  ASSERT_EQ(layers.size(), 2u * 7 + 2u * 10);
  std::int64_t outside = 0;
  for (const LayerSaturation& layer : layers) {
    EXPECT_GT(layer.counts.inputs, 0) << layer.name;
    EXPECT_GT(layer.counts.outputs, 0) << layer.name;
    outside += layer.counts.input_min + layer.counts.input_max;
  }
  EXPECT_GT(outside, 0);
  EXPECT_EQ(layers.front().name.find("model."), 0u);
  EXPECT_TRUE(model->is_training());
  EXPECT_FALSE(nn::has_clip_observer(*model));
}

TEST(Saturation, AsksForNoMoreSamplesThanItMeasures) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {}}).model;
  const data::Batch image = *example_data("media_parts.jsonl", model->config())({{true, false}});
  ASSERT_EQ(image.kinds(), (input::PerKind<bool>{{true, false}}));
  int asked_for_image = 0, asked = 0;
  const auto images_only = [&](const input::PerKind<bool>& wanted) -> std::optional<data::Batch> {
    ++asked;
    if (!wanted[input::MediaKind::kImage]) return std::nullopt;  // the data holds no other kind
    ++asked_for_image;
    return image;
  };
  measure_saturation(model, images_only, torch::kCPU);
  EXPECT_EQ(asked_for_image, 2);
  EXPECT_EQ(asked, 3);
}

TEST(Saturation, IsEmptyWithoutMedia) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {}}).model;
  EXPECT_TRUE(measure_saturation(model, example_data("text.jsonl", model->config()), torch::kCPU).empty());
}

}  // namespace
}  // namespace bezel::train
