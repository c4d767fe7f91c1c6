#include "bezel/train/loraplus.h"

#include <string>

#include <gtest/gtest.h>

namespace bezel::train {
namespace {

constexpr const char* kLayer = "base_model.model.model.language_model.layers.0.self_attn.q_proj.";
constexpr const char* kTable = "base_model.model.model.language_model.embed_tokens.";

double factor(const LoraPlus& settings, const std::string& layer, const std::string& part,
              std::int64_t dimensions = 2) {
  return rate_factor(settings, layer + part, dimensions);
}

TEST(LoraPlus, WithoutARatioAllTensorsHaveOneRate) {
  for (const char* part : {"lora_A.weight", "lora_B.weight", "lora_embedding_A"})
    EXPECT_EQ(factor({}, kLayer, part), 1.0);
  EXPECT_EQ(factor({}, kLayer, "lora_magnitude_vector", 1), 1.0);
}

TEST(LoraPlus, GroupsAreThoseOfPeft) {
  const LoraPlus settings{.ratio = 16.0, .embedding_rate = 5e-6, .learning_rate = 1e-4};
  EXPECT_EQ(factor(settings, kLayer, "lora_A.weight"), 1.0);
  EXPECT_EQ(factor(settings, kLayer, "lora_B.weight"), 16.0);
  EXPECT_EQ(factor(settings, kLayer, "lora_magnitude_vector", 1), 16.0);
  EXPECT_EQ(factor(settings, "base_model.model.lm_head.", "lora_B.weight"), 16.0);
  EXPECT_DOUBLE_EQ(factor(settings, kTable, "lora_embedding_A"), 0.05);
  EXPECT_DOUBLE_EQ(factor(settings, kTable, "lora_embedding_B"), 0.05);
  EXPECT_EQ(factor(settings, kTable, "token_adapter.trainable_tokens_delta"), 1.0);
  EXPECT_EQ(factor(settings, kTable, "weight"), 1.0);
  EXPECT_EQ(factor({.ratio = 2.0, .learning_rate = 0.0}, kTable, "lora_embedding_A"), 0.0);
}

}  // namespace
}  // namespace bezel::train
