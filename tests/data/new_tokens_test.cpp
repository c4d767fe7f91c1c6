#include "bezel/data/new_tokens.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/io/atomic_write.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using Ids = std::vector<std::int64_t>;

// "added_tokens" is a value, and a key of another object, before it is the document's own key.
constexpr const char* kFile = R"({
    "version": "added_tokens", "truncation": {"added_tokens": [], "note": "]"},
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "normalized": false},
                     {"id": 6, "content": "<]\"x>", "special": true, "normalized": false}
    ],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
      "vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "_": 4, "ab": 5}, "merges": ["a b"]}})";

std::vector<AddedToken> two_tokens() {
  return {{.content = "<new>", .special = true}, {.content = "c a", .normalized = true}};
}

class NewTokens : public testing::Test {
 protected:
  std::string folder(const char* name, const std::string& tokenizer) {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path);
    if (!tokenizer.empty()) io::write_file_atomically((path / "tokenizer.json").string(), tokenizer);
    return path.string();
  }
  std::string base() { return folder("base", kFile); }

  // The base's tokenizer with two tokens, as a run writes it.
  std::string grown() {
    std::vector<AddedToken> tokens = two_tokens();
    tokens[0].id = 7;
    tokens[1].id = 8;
    return with_added_tokens(kFile, tokens, "t.json");
  }

  std::string refusal(const std::string& adapter) {
    try {
      tokens_of_adapter(base(), adapter);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  test::TempFolder folder_;
};

TEST_F(NewTokens, GetTheNextIdsAndAreCutOutOfTexts) {
  const Tokenizer tokenizer = Tokenizer::of_model(base(), two_tokens());
  EXPECT_EQ(tokenizer.vocab_size(), 9);
  EXPECT_EQ(tokenizer.encode("ab<new>bc ab").ids, (Ids{5, 7, 2, 8, 2}));
  EXPECT_EQ(tokenizer.decode(Ids{5, 7, 2}, /*skip_special_tokens=*/true), "abb");
  EXPECT_EQ(Tokenizer::of_model(base()).vocab_size(), 7);
}

TEST_F(NewTokens, WordsOfTheVocabularyKeepTheirIds) {
  const std::vector<AddedToken> tokens{{.content = "b"}, {.content = "<unk>"}};
  const Tokenizer tokenizer = Tokenizer::of_model(base(), tokens);
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.encode("ab").ids, (Ids{1, 2}));  // no merge reaches over it
  EXPECT_EQ(tokenizer.added().size(), 3u);
}

TEST_F(NewTokens, WrittenFilesAreReadAsTheyWereMade) {
  const Tokenizer made = Tokenizer::of_model(base(), two_tokens());
  const Tokenizer read = Tokenizer::from_json(grown(), "t.json");
  for (const char* text : {"ab<new>bc ab", "c a", "c  a<new>", "<]\"x>"})
    EXPECT_EQ(read.encode(text).ids, made.encode(text).ids) << text;
  std::string rest = grown();  // nothing else has changed
  const std::size_t begin = rest.find(",\n    {\"id\":7"), end = rest.find("\n    ],");
  ASSERT_LT(begin, end);
  EXPECT_EQ(rest.erase(begin, end - begin), kFile);
}

TEST_F(NewTokens, AListIsMadeWhereThereIsNone) {
  std::string file = kFile;
  const std::size_t begin = file.find("\"added_tokens\": [{");
  file.erase(begin, file.find("\"normalizer\"") - begin);
  const std::vector<AddedToken> tokens{{.content = "<new>", .id = 6}};
  EXPECT_EQ(Tokenizer::from_json(with_added_tokens(file, tokens, "t.json"), "t.json").encode("a<new>").ids,
            (Ids{1, 6}));
}

TEST_F(NewTokens, OfAnAdapterAreThoseThatTheBaseLacks) {
  EXPECT_TRUE(tokens_of_adapter(base(), folder("plain", kFile)).empty());
  EXPECT_TRUE(tokens_of_adapter(base(), folder("none", "")).empty());
  const std::vector<AddedToken> found = tokens_of_adapter(base(), folder("grown", grown()));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].content, "<new>");
  EXPECT_TRUE(found[0].special);
  EXPECT_EQ(found[1].id, 8);
  EXPECT_EQ(num_ids(found), 9);
  EXPECT_EQ(tokens_of_adapter(base(), folder("grown/checkpoint-5", "")).size(), 2u);
  EXPECT_TRUE(tokens_of_adapter(base(), folder("grown/other", "")).empty());
}

TEST_F(NewTokens, ThatContradictTheBaseAreRefused) {
  const auto with = [&](AddedToken token) { return with_added_tokens(kFile, std::vector{std::move(token)}, "t"); };
  const std::string hole = refusal(folder("hole", with({.content = "<new>", .id = 8})));
  EXPECT_NE(hole.find("'<new>' has id 8"), std::string::npos) << hole;
  EXPECT_NE(hole.find("next one is 7"), std::string::npos) << hole;
  const std::string other = refusal(folder("other", with({.content = "ab", .id = 7})));
  EXPECT_NE(other.find("it has id 5"), std::string::npos) << other;
}

TEST_F(NewTokens, EveryFileThatListsAddedTokensGetsThem) {
  const std::string folder = base();
  io::write_file_atomically(folder + "/tokenizer_config.json",
                            R"({"added_tokens_decoder": {"0": {"content": "<unk>"}}})");
  const std::vector<AddedToken> tokens{{.content = "<new>", .id = 7, .special = true}};
  auto files = tokenizer_files(folder, tokens);
  EXPECT_EQ(files.size(), 2u);
  const io::Json config = io::parse_json(files["tokenizer_config.json"], "c");
  EXPECT_EQ(config["added_tokens_decoder"]["7"]["content"], "<new>");
  EXPECT_EQ(config["added_tokens_decoder"].size(), 2u);
  EXPECT_TRUE(tokenizer_files(folder, {}).empty());
}

}  // namespace
}  // namespace bezel::data
