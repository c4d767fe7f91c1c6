#include "bezel/gemma4/config_fit.h"

#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::gemma4 {
namespace {

using test::says;

constexpr const char* kEmbeddings = "model.language_model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

struct Values {
  io::DType dtype = io::DType::kF32;
  std::string bytes;
};

std::string floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// The config that a checkpoint with these tensors gets; vision and audio are in it.
ModelConfig fitted(const std::map<std::string, Values>& tensors, bool tied = true) {
  const test::TempFolder folder;
  std::vector<io::TensorBytes> list;
  for (const auto& [name, values] : tensors) {
    const auto count = static_cast<std::int64_t>(values.bytes.size() / io::dtype_bytes(values.dtype));
    list.push_back({name, values.dtype, {count}, values.bytes.data(), values.bytes.size()});
  }
  io::write_safetensors(folder / "model.safetensors", list);
  ModelConfig config;
  config.text.tie_word_embeddings = tied;
  config.vision.emplace();
  config.audio.emplace();
  fit_to_weights(config, io::Checkpoint::open(folder.path().string()));
  return config;
}

std::map<std::string, Values> both_towers() {
  const Values one{.bytes = floats({1})};
  return {{kEmbeddings, {.bytes = floats({1, 2.5f})}},
          {"model.vision_tower.a", one},
          {"model.embed_vision.a", one},
          {"model.audio_tower.a", one},
          {"model.embed_audio.a", one}};
}

// transformers' tie_weights: only equal matrices are tied.
TEST(ConfigFit, AHeadOfItsOwnIsNotTied) {
  auto tensors = both_towers();
  EXPECT_TRUE(fitted(tensors).text.tie_word_embeddings);
  tensors[kHead].bytes = floats({1, 2.5f});
  EXPECT_TRUE(fitted(tensors).text.tie_word_embeddings);
  tensors[kHead] = {io::DType::kBF16, std::string("\x80\x3f\x20\x40", 4)};  // 1 and 2.5
  EXPECT_TRUE(fitted(tensors).text.tie_word_embeddings);
  tensors[kHead] = {io::DType::kF16, std::string("\x00\x3c\x00\x41", 4)};
  EXPECT_TRUE(fitted(tensors).text.tie_word_embeddings);
  tensors[kHead].bytes[0] = 1;
  EXPECT_FALSE(fitted(tensors).text.tie_word_embeddings);
  tensors[kHead] = {io::DType::kF32, floats({1, 2})};
  const ModelConfig config = fitted(tensors);
  EXPECT_FALSE(config.text.tie_word_embeddings);
  ASSERT_EQ(config.warnings.size(), 1u);
  EXPECT_TRUE(says(config.warnings[0], "lm_head.weight differs"));
  EXPECT_TRUE(fitted(tensors, false).warnings.empty());
  tensors["model.lm_head.weight"] = tensors[kHead];  // as a save of another class spells it
  tensors.erase(kHead);
  EXPECT_FALSE(fitted(tensors).text.tie_word_embeddings);
}

TEST(ConfigFit, ATowerWithoutTensorsIsLeftOut) {
  auto tensors = both_towers();
  EXPECT_TRUE(fitted(tensors).warnings.empty());
  tensors.erase("model.audio_tower.a");
  EXPECT_FALSE(fitted(tensors).audio.has_value());  // an embedder without its tower is of no use
  tensors.erase("model.embed_audio.a");
  const ModelConfig config = fitted(tensors);
  EXPECT_TRUE(config.vision.has_value());
  EXPECT_FALSE(config.audio.has_value());
  ASSERT_EQ(config.warnings.size(), 1u);
  EXPECT_TRUE(says(config.warnings[0], "audio_config"));
}

// Such names say nothing of towers; loading names the prefix.
TEST(ConfigFit, NamesOfAnotherKindChangeNothing) {
  const ModelConfig config = fitted({{"_orig_mod.model.language_model.embed_tokens.weight", {.bytes = floats({1})}}});
  EXPECT_TRUE(config.vision.has_value());
  EXPECT_TRUE(config.warnings.empty());
}

}  // namespace
}  // namespace bezel::gemma4
