#include "bezel/data/tokenizer_gguf.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "bezel/data/tokenizer.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::gguf_text;
using test::GgufBytes;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr std::uint32_t kI32 = 5, kF32 = 6, kBool = 7, kString = 8;

/// A vocabulary in the making; `types` as tokenizer.ggml.token_type has them.
struct Words {
  std::string model = "llama";
  std::vector<std::string> words{"<pad>", "<eos>", "<bos>", "<unk>"};
  std::vector<std::int32_t> types{3, 3, 3, 2};
  std::vector<float> scores{-1000, -1000, -1000, -1000};
  std::vector<std::string> merges{};
  bool space_prefix = false;
  std::uint32_t bos = 2;

  void add(const std::string& word, float score, std::int32_t type = 1) {
    words.push_back(word);
    scores.push_back(score);
    types.push_back(type);
  }
  void add_bytes() {
    for (int byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", byte);
      add(name, 0, 6);
    }
  }

  GgufBytes bytes() const {
    GgufBytes file;
    std::string texts, kinds, values, lines;
    for (const std::string& word : words) texts += gguf_text(word);
    for (const std::int32_t type : types) kinds += raw(type);
    for (const float score : scores) values += raw(score);
    for (const std::string& merge : merges) lines += gguf_text(merge);
    file.key("tokenizer.ggml.model", model).list("tokenizer.ggml.tokens", kString, words.size(), texts);
    file.list("tokenizer.ggml.token_type", kI32, types.size(), kinds);
    file.list("tokenizer.ggml.scores", kF32, scores.size(), values);
    if (!merges.empty()) file.list("tokenizer.ggml.merges", kString, merges.size(), lines);
    file.key("tokenizer.ggml.add_space_prefix", kBool, raw<std::uint8_t>(space_prefix ? 1 : 0));
    file.key("tokenizer.ggml.bos_token_id", bos).key("tokenizer.ggml.unknown_token_id", 3);
    return file;
  }
};

Tokenizer tokenizer_of(const Words& words) {
  const TempFolder folder;
  write_bytes(folder / "t.gguf", words.bytes().bytes());
  return Tokenizer::of_model(folder / "t.gguf");
}

std::string complaint(const Words& words) {
  return error_of([&] { tokenizer_of(words); });
}

Words small() {
  Words words;
  words.add_bytes();
  words.add("▁", -9);    // 260
  words.add("a", -10);   // 261
  words.add("b", -11);   // 262
  words.add("ab", -3);   // 263
  words.add("aba", -2);  // 264
  words.add("ba", -1);   // 265
  return words;
}

using Ids = std::vector<std::int64_t>;

TEST(TokenizerGguf, TheHighestScoreIsMergedFirst) {
  const Tokenizer tokenizer = tokenizer_of(small());
  EXPECT_EQ(tokenizer.encode("aba").ids, (Ids{264}));  // a ba, then aba
  EXPECT_EQ(tokenizer.encode("abb").ids, (Ids{263, 262}));
  EXPECT_EQ(tokenizer.encode("bab").ids, (Ids{265, 262}));
  EXPECT_EQ(tokenizer.encode("a b").ids, (Ids{261, 260, 262}));
  EXPECT_EQ(tokenizer.encode("é").ids, (Ids{4 + 0xc3, 4 + 0xa9}));
  EXPECT_EQ(tokenizer.encode("<eos>a", true).ids, (Ids{2, 1, 261}));
  EXPECT_EQ(tokenizer.decode(Ids{263, 260, 4 + 0xc3, 4 + 0xa9}), "ab é");
}

TEST(TokenizerGguf, UserDefinedWordsComeFirstAndBlanksInThemAreMarks) {
  Words words = small();
  words.add("  ", -1000, 4);     // 266, "▁▁"
  words.add("\n\n", -1000, 4);   // 267
  words.add("<tag>", -1000, 4);  // 268
  const Tokenizer tokenizer = tokenizer_of(words);
  EXPECT_EQ(tokenizer.encode("a  b").ids, (Ids{261, 266, 262}));
  EXPECT_EQ(tokenizer.encode("a\n\n<tag>b").ids, (Ids{261, 267, 268, 262}));
  EXPECT_EQ(tokenizer.decode(Ids{266, 268}, /*skip_special_tokens=*/true), "  <tag>");
  EXPECT_EQ(tokenizer.decode(Ids{1, 261}, /*skip_special_tokens=*/true), "a");
}

TEST(TokenizerGguf, ReadsAListOfMerges) {
  Words words = small();
  words.model = "gemma4";
  words.merges = {"a b", "b a", "ab a"};
  const Tokenizer tokenizer = tokenizer_of(words);
  EXPECT_EQ(tokenizer.encode("aba").ids, (Ids{264}));
  EXPECT_EQ(tokenizer.encode("bab").ids, (Ids{262, 263}));
}

TEST(TokenizerGguf, RefusesByNameWhatItCannotBe) {
  const auto changed = [](const std::function<void(Words&)>& change) {
    Words words = small();
    change(words);
    return complaint(words);
  };
  EXPECT_EQ(changed([](Words&) {}), "");
  EXPECT_TRUE(says(changed([](Words& w) { w.model = "gpt2"; }), "tokenizer.ggml.model': got 'gpt2'"));
  EXPECT_TRUE(says(changed([](Words& w) { w.add("ab", -7); }), "word 266 is also word 263"));
  EXPECT_TRUE(says(changed([](Words& w) { w.add("\xff", -7); }), "no UTF-8"));
  EXPECT_TRUE(says(changed([](Words& w) { w.add(std::string(300, 'x'), -7); }), "longer than 256 bytes"));
  EXPECT_TRUE(says(changed([](Words& w) { w.types.pop_back(); }), "tokenizer.ggml.token_type"));
  EXPECT_TRUE(says(changed([](Words& w) { w.types.back() = 9; }), "tokenizer.ggml.token_type': element 265"));
  EXPECT_TRUE(says(changed([](Words& w) { w.scores.pop_back(); }), "tokenizer.ggml.scores"));
  EXPECT_TRUE(says(changed([](Words& w) { w.scores.back() = NAN; }), "tokenizer.ggml.scores"));
  EXPECT_TRUE(says(changed([](Words& w) { w.bos = 266; }), "tokenizer.ggml.bos_token_id': got 266"));
  EXPECT_TRUE(says(changed([](Words& w) { w.space_prefix = true; }), "add_space_prefix"));
  EXPECT_TRUE(says(changed([](Words& w) { w.words[10] = "<0xZZ>"; }), "'<0x06>' is missing"));
  for (const char* merge : {"ab", "a b a", "a x", "b b"})
    EXPECT_TRUE(says(changed([&](Words& w) {
                       w.model = "gemma4";
                       w.merges = {"a b", merge};
                     }),
                     "tokenizer.ggml.merges', entry 1"));
  EXPECT_TRUE(says(changed([](Words& w) { w.model = "gemma4"; }), "'tokenizer.ggml.merges' is missing"));
}

}  // namespace
}  // namespace bezel::data
