#include "bezel/generate/settings.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::generate {
namespace {

const data::Tokenizer& tokenizer() {
  static const data::Tokenizer read = data::Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json");
  return read;
}

class SettingsOf : public testing::Test {
 protected:
  Settings read(const std::string& generation, const std::string& config = "{}") {
    test::write_bytes(folder / "config.json", config);
    if (!generation.empty()) test::write_bytes(folder / "generation_config.json", generation);
    return read_settings(folder.path().string(), tokenizer());
  }
  std::string refusal(const std::string& generation) {
    return test::error_of([&] { read(generation); });
  }

  test::TempFolder folder;
  std::int64_t turn = *tokenizer().token_id("<turn|>");
};

TEST_F(SettingsOf, ReleasedFile) {
  const Settings settings = read(
      R"({"bos_token_id": 2, "do_sample": true, "eos_token_id": [1, 50], "temperature": 1.0, "top_k": 64, "top_p": 0.95})");
  EXPECT_FALSE(settings.sampling.greedy);
  EXPECT_EQ(settings.sampling.top_k, 64);
  EXPECT_DOUBLE_EQ(settings.sampling.top_p, 0.95);
  EXPECT_EQ(settings.stop_ids, (std::vector<std::int64_t>{1, 50, turn}));
  EXPECT_TRUE(settings.notes.empty());
}

TEST_F(SettingsOf, DefaultsAreTransformers) {
  const Settings settings = read("{}", R"({"eos_token_id": 1})");
  EXPECT_TRUE(settings.sampling.greedy);
  EXPECT_EQ(settings.sampling.top_k, 50);
  EXPECT_DOUBLE_EQ(settings.sampling.temperature, 1.0);
  EXPECT_DOUBLE_EQ(settings.sampling.top_p, 1.0);
  EXPECT_FALSE(settings.max_new_tokens);
}

TEST_F(SettingsOf, StopIdsComeFromConfigWhereTheFileHasNone) {
  EXPECT_EQ(read("", R"({"eos_token_id": [1, 3]})").stop_ids, (std::vector<std::int64_t>{1, 3, turn}));
  EXPECT_EQ(read("{}", R"({"text_config": {"eos_token_id": 1}})").stop_ids, (std::vector<std::int64_t>{1, turn}));
  EXPECT_EQ(read("{}").stop_ids, (std::vector<std::int64_t>{turn}));
  EXPECT_EQ(read("{\"eos_token_id\": " + std::to_string(turn) + "}").stop_ids, (std::vector<std::int64_t>{turn}));
}

TEST_F(SettingsOf, SuppressedTokensAreReadAndNotNoted) {
  const Settings settings = read(R"({"suppress_tokens": [258883, 258882]})");
  EXPECT_EQ(settings.sampling.suppress_tokens, (std::vector<std::int64_t>{258883, 258882}));
  EXPECT_TRUE(settings.notes.empty());
  EXPECT_TRUE(read(R"({"suppress_tokens": null})").sampling.suppress_tokens.empty());
  EXPECT_TRUE(test::says(refusal(R"({"suppress_tokens": ["x"]})"), "key 'suppress_tokens"));
}

TEST_F(SettingsOf, SaysWhatItDoesNotDo) {
  const Settings settings = read(R"({"repetition_penalty": 1.2, "num_beams": 1, "bad_words_ids": null, "min_p": 0.1})");
  ASSERT_EQ(settings.notes.size(), 2u);
  EXPECT_TRUE(test::says(settings.notes[0], "repetition_penalty 1.2"));
  EXPECT_TRUE(test::says(settings.notes[1], "min_p 0.1"));
}

TEST_F(SettingsOf, RefusesValuesThatCannotBe) {
  EXPECT_TRUE(test::says(refusal(R"({"do_sample": true, "temperature": 0})"), "key 'temperature'"));
  EXPECT_TRUE(test::says(refusal(R"({"top_k": -1})"), "key 'top_k'"));
  EXPECT_TRUE(test::says(refusal(R"({"top_p": 2})"), "key 'top_p'"));
  EXPECT_TRUE(test::says(refusal(R"({"eos_token_id": [1, "x"]})"), "key 'eos_token_id"));
  EXPECT_TRUE(test::says(refusal(R"({"max_new_tokens": 0})"), "key 'max_new_tokens'"));
  EXPECT_TRUE(test::says(refusal("{"), "generation_config.json"));
}

}  // namespace
}  // namespace bezel::generate
