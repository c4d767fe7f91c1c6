#include "bezel/data/gguf_vocabulary.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "bezel/data/tokenizer.h"
#include "tests/support/temp_folder.h"

// tests/parity/gguf_out.py compares every key with what PyPI gguf makes of the same folder.
namespace bezel::data {
namespace {

using test::error_of;
using test::says;
using test::write_bytes;

constexpr std::int64_t kRows = 1400;

class GgufVocabularyTest : public testing::Test {
 protected:
  GgufVocabularyTest() {
    std::filesystem::create_directory(model);
    std::filesystem::copy_file(BEZEL_TEST_DATA "/tiny_tokenizer.json", model + "/tokenizer.json");
    put("tokenizer_config.json",
        R"({"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "chat_template": "{{ x }}"})");
    put("config.json", R"({"eos_token_id": [1, 2], "text_config": {"pad_token_id": 0}})");
  }

  void put(const std::string& name, const std::string& text) const { write_bytes(model + "/" + name, text); }
  std::shared_ptr<const io::GgufFile> written(std::int64_t rows = kRows,
                                              gemma4::Family family = gemma4::Family::kGemma4) const {
    io::NewGgufKeys keys;
    set_gguf_tokenizer(model, family, rows, keys);
    io::write_gguf(folder / "m.gguf", keys, {});
    return io::GgufFile::open(folder / "m.gguf");
  }

  test::TempFolder folder;
  std::string model = folder / "model";
};

TEST_F(GgufVocabularyTest, TextsGetTheIdsThatTheFolderGivesThem) {
  const auto file = written();
  const Tokenizer from_folder = Tokenizer::of_model(model), from_file = Tokenizer::of_model(file->path());
  for (const char* text : {"Hello world", "a  b\n\nc", "<bos>ab<eos>", "é漢"})
    EXPECT_EQ(from_file.encode(text).ids, from_folder.encode(text).ids) << text;
}

TEST_F(GgufVocabularyTest, WordsArePaddedToTheRows) {
  const auto file = written();
  EXPECT_EQ(file->at("tokenizer.ggml.tokens").texts().size(), static_cast<std::size_t>(kRows));
  EXPECT_EQ(file->at("tokenizer.ggml.tokens").texts().back(), "[PAD1399]");
  EXPECT_EQ(file->at("tokenizer.ggml.token_type").wholes().back(), 5);
  EXPECT_TRUE(says(error_of([&] { written(5); }), "tokenizer.json: has"));
}

TEST_F(GgufVocabularyTest, RolesComeFromBothConfigs) {
  const auto file = written();
  const auto words = file->at("tokenizer.ggml.tokens").texts();
  const auto id = [&](const char* name) { return static_cast<std::size_t>(file->at(name).whole()); };
  EXPECT_EQ(words[id("tokenizer.ggml.bos_token_id")], "<bos>");
  EXPECT_EQ(words[id("tokenizer.ggml.eos_token_id")], "<eos>");
  EXPECT_EQ(id("tokenizer.ggml.padding_token_id"), 0u);
  EXPECT_EQ(file->get("tokenizer.ggml.mask_token_id"), nullptr);
}

TEST_F(GgufVocabularyTest, TheTemplateIsTakenWhereverItStands) {
  EXPECT_EQ(written()->at("tokenizer.chat_template").text(), "{{ x }}");
  put("tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tools", "template": "t"}]})");
  EXPECT_EQ(written()->at("tokenizer.chat_template").text(), "d");
  EXPECT_EQ(written()->at("tokenizer.chat_template.tools").text(), "t");
  put("tokenizer_config.json", "{}");
  EXPECT_EQ(written()->get("tokenizer.chat_template"), nullptr);
  put("chat_template.jinja", "from a file");
  EXPECT_EQ(written()->at("tokenizer.chat_template").text(), "from a file");
}

/// A word of a SentencePiece model: field 1 of the model with text, score and type.
std::string piece(const std::string& text, float score, int type) {
  std::string bytes = "\x0a" + std::string(1, static_cast<char>(text.size())) + text + "\x15";
  bytes.append(reinterpret_cast<const char*>(&score), sizeof score);
  bytes += std::string("\x18") + static_cast<char>(type);
  return "\x0a" + std::string(1, static_cast<char>(bytes.size())) + bytes;
}

TEST_F(GgufVocabularyTest, Gemma3HasTheScoresOfTokenizerModel) {
  const auto write = [&] { return written(kRows, gemma4::Family::kGemma3); };
  EXPECT_TRUE(says(error_of(write), "tokenizer.model: missing"));
  put("tokenizer.model",
      piece("<pad>", 0, 3) + piece("<unk>", 0, 2) + piece("<0x00>", 0, 6) + piece("ab", -1.5f, 1) + piece("▁▁", -7, 4));
  put("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<bos>", "added_tokens_decoder": {
      "0": {"content": "<pad>", "special": true}, "4": {"content": "▁▁", "special": false},
      "6": {"content": "<unused0>", "special": false}}})");
  const auto file = write();
  EXPECT_EQ(file->at("tokenizer.ggml.model").text(), "llama");
  const auto words = file->at("tokenizer.ggml.tokens").texts();
  const std::vector<std::string_view> wanted{"<pad>", "<unk>", "<0x00>", "ab", "  ", "[PAD5]", "<unused0>", "[PAD7]"};
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), words.begin()));
  const auto types = file->at("tokenizer.ggml.token_type").wholes();
  const std::vector<std::int64_t> wanted_types{3, 2, 6, 1, 4, 5, 3, 5};
  EXPECT_TRUE(std::equal(wanted_types.begin(), wanted_types.end(), types.begin()));
  const auto scores = file->at("tokenizer.ggml.scores").floats();
  const std::vector<float> wanted_scores{-1000, 0, 0, -1.5f, -1000, -10000, -1000, -10000};
  EXPECT_TRUE(std::equal(wanted_scores.begin(), wanted_scores.end(), scores.begin()));
  EXPECT_TRUE(file->at("tokenizer.ggml.add_bos_token").boolean());
  EXPECT_EQ(file->get("tokenizer.ggml.merges"), nullptr);
}

TEST_F(GgufVocabularyTest, NamesTheMissingTokenizer) {
  std::filesystem::remove(model + "/tokenizer.json");
  EXPECT_TRUE(says(error_of([&] { written(); }), "tokenizer.json"));
}

}  // namespace
}  // namespace bezel::data
