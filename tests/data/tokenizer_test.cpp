#include "bezel/data/tokenizer.h"

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bezel/data/utf8.h"
#include "bezel/error.h"
#include "bezel/io/json.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using io::Json;
using Ids = std::vector<std::int64_t>;

std::string tiny_path() { return std::string(BEZEL_TEST_DATA) + "/tiny_tokenizer.json"; }

const Tokenizer& tiny() {
  static const Tokenizer tokenizer = Tokenizer::from_file(tiny_path());
  return tokenizer;
}

// A vocabulary of a few words: no bytes, so that <unk> shows.
Json small_file() {
  return io::parse_json(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "normalized": false},
                     {"id": 9, "content": "<x>", "special": true, "normalized": false},
                     {"id": 10, "content": "<x>y", "special": false, "normalized": false},
                     {"id": 11, "content": "b c", "special": false, "normalized": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "_"}, "content": " "},
                                                 {"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
      "vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "_": 4, "ab": 5, "bc": 6, "abc": 7, "_a": 8},
      "merges": [["b", "c"], "a b", ["a", "bc"], ["_", "a"]]}})",
                        "small");
}

Ids encode_small(std::string_view text) { return Tokenizer::from_json(small_file().dump(), "small").encode(text).ids; }

std::string error_of(const Json& file) {
  try {
    Tokenizer::from_json(file.dump(), "t.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Tokenizer, LowestRankFirstAndUnknownRunsFuse) {
  EXPECT_EQ(encode_small("abc"), (Ids{7}));  // "bc" has the lower rank, then "a" + "bc"
  EXPECT_EQ(encode_small("ab"), (Ids{5}));   // written "a b"
  EXPECT_EQ(encode_small("a a"), (Ids{1, 8}));
  EXPECT_EQ(encode_small("azéz"), (Ids{1, 0}));
  EXPECT_EQ(encode_small(""), Ids{});
}

TEST(Tokenizer, AddedTokensAreLongestFirstAndRawOnesGoBeforeTheNormalizer) {
  EXPECT_EQ(encode_small("a<x>yb<x>"), (Ids{1, 10, 2, 9}));
  EXPECT_EQ(encode_small("ab ca"), (Ids{1, 11, 1}));
}

TEST(Tokenizer, OffsetsPointIntoTheGivenText) {
  const std::string text = "  naïve 日本 <turn|>🤖 x";
  const auto got = tiny().encode(text);
  std::size_t at = 0;
  for (std::size_t i = 0; i < got.ids.size(); ++i) {
    EXPECT_EQ(got.begin_bytes[i], at);
    at = got.end_bytes[i];
    EXPECT_EQ(tiny().decode(Ids{got.ids[i]}).find('\0'), std::string::npos);
  }
  EXPECT_EQ(at, text.size());
  EXPECT_EQ(tiny().decode(got.ids), text);
  const auto with_bos = tiny().encode("a", true);
  EXPECT_EQ(with_bos.ids, (Ids{2, tiny().token_id("a").value()}));
  EXPECT_EQ(with_bos.end_bytes[0], 0u);
}

TEST(Tokenizer, DecodeSkipsSpecialTokensAndShowsBrokenBytes) {
  const auto byte = [](const char* name) { return tiny().token_id(name).value(); };
  EXPECT_EQ(tiny().decode(tiny().encode("<bos>hi <turn|>").ids, true), "hi ");
  EXPECT_EQ(tiny().decode(Ids{byte("<0xC3>"), byte("<0xA9>")}), "é");
  EXPECT_EQ(tiny().decode(Ids{byte("<0xC3>"), byte("a")}),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_THROW(tiny().decode(Ids{-1}), Error);
  EXPECT_THROW(tiny().decode(Ids{tiny().vocab_size()}), Error);
  EXPECT_FALSE(tiny().token_id("no such word").has_value());
}

TEST(Tokenizer, InvalidUtf8IsRefused) {
  for (const std::string text : {"\x80", "a\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "12345678\xFF"})
    EXPECT_THROW(tiny().encode(text), Error);
  EXPECT_EQ(find_invalid_utf8("12345678é\xFF"), 10u);
  EXPECT_EQ(find_invalid_utf8("\xF4\x8F\xBF\xBF\xED\x9F\xBF"), std::string_view::npos);
}

// Merges one pair at a time, as the definition says.
Ids merge_naively(std::vector<std::string> parts, const Json& file) {
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (std::size_t i = 0; i < file["model"]["merges"].size(); ++i)
    ranks[{file["model"]["merges"][i][0], file["model"]["merges"][i][1]}] = i;
  while (true) {
    std::size_t best = parts.size(), best_rank = ranks.size();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      if (const auto hit = ranks.find({parts[i], parts[i + 1]}); hit != ranks.end() && hit->second < best_rank)
        best = i, best_rank = hit->second;
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const auto& part : parts) ids.push_back(file["model"]["vocab"][part]);
  return ids;
}

TEST(Tokenizer, LongAndShortPiecesMergeAsTheDefinitionSays) {
  const Json file = io::read_json_file(tiny_path());
  std::uint32_t state = 1;
  for (const std::size_t length : {1, 5, 47, 48, 49, 400}) {
    std::vector<std::string> parts;
    std::string text;
    for (std::size_t i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;
      parts.emplace_back(1, "tiheaonr"[state >> 29]);
      text += parts.back();
    }
    EXPECT_EQ(tiny().encode(text).ids, merge_naively(parts, file)) << text;
  }
}

TEST(Tokenizer, AMegabyteWithoutABlankTakesNoQuadraticTime) {
  const std::string text(1 << 20, 'e');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_GT(tiny().encode(text).ids.size(), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(TokenizerFile, BadIdsAreRefused) {
  auto file = small_file();
  EXPECT_EQ(error_of(file), "accepted");
  for (const Json& id :
       {Json(-1), Json(2.0), Json("3"), Json(nullptr), Json(std::uint64_t{1} << 40), Json(1), Json(20)}) {
    file = small_file();
    file["model"]["vocab"]["c"] = id;
    EXPECT_NE(error_of(file).find("t.json: key 'model.vocab'"), std::string::npos) << id << error_of(file);
  }
  file = small_file();
  file["added_tokens"][1]["id"] = 12;
  EXPECT_NE(error_of(file).find("added_tokens"), std::string::npos);
  file = small_file();
  file["added_tokens"][0]["id"] = 1;
  EXPECT_NE(error_of(file).find("added_tokens"), std::string::npos);
}

TEST(TokenizerFile, BadMergesAreRefused) {
  for (const char* merge : {R"(["a", "z"])", R"(["c", "a"])", R"("ab")", R"("a b c")", R"(["a"])", R"(["a","b","c"])",
                            "3", "null", R"({"a": 1})", R"([["a"]])", R"(["", "a"])"}) {
    auto file = small_file();
    file["model"]["merges"].push_back(io::parse_json(merge, "merge"));
    EXPECT_NE(error_of(file).find("t.json: key 'model.merges', entry 4"), std::string::npos) << merge << error_of(file);
  }
}

TEST(TokenizerFile, UnknownComponentsAreRefusedByName) {
  const auto with = [](const char* key, const char* value) {
    auto file = small_file();
    file[key] = io::parse_json(value, "value");
    return error_of(file);
  };
  EXPECT_NE(with("normalizer", R"({"type": "NFKC"})").find("'NFKC'"), std::string::npos);
  EXPECT_NE(with("pre_tokenizer", R"({"type": "ByteLevel"})").find("'ByteLevel'"), std::string::npos);
  EXPECT_NE(with("post_processor", R"({"type": "BertProcessing"})").find("'BertProcessing'"), std::string::npos);
  EXPECT_NE(with("decoder", R"({"type": "WordPiece"})").find("'WordPiece'"), std::string::npos);
  EXPECT_NE(with("model", R"({"type": "Unigram", "vocab": {}, "merges": []})").find("'Unigram'"), std::string::npos);
  EXPECT_NE(with("normalizer", R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})").find("pattern"),
            std::string::npos);
  auto file = small_file();
  file["added_tokens"][1]["lstrip"] = true;
  EXPECT_NE(error_of(file).find("lstrip"), std::string::npos);
  file = small_file();
  file["model"]["byte_fallback"] = true;
  EXPECT_NE(error_of(file).find("<0x00>"), std::string::npos);
}

// A few kilobytes of these would otherwise make of one letter more text than any memory holds, or put a million tokens
// around it.
TEST(TokenizerFile, StepsAndWhatTheyMakeOfATextAreBounded) {
  const Json doubles = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  auto file = small_file();
  file["normalizer"]["normalizers"] = std::vector<Json>(15, doubles);
  const Tokenizer tokenizer = Tokenizer::from_json(file.dump(), "t.json");
  const std::string text(1000, 'a');
  EXPECT_TRUE(test::says(test::error_of([&] { tokenizer.encode(text); }), "more than 20096 bytes of a text of"));
  EXPECT_EQ(tokenizer.encode("b").ids, (Ids{2}));
  file["normalizer"]["normalizers"] = std::vector<Json>(17, doubles);
  EXPECT_TRUE(test::says(error_of(file), "at most 16 of its kind"));

  file = small_file();
  file["decoder"]["decoders"][0] = {
      {"type", "Replace"}, {"pattern", {{"String", "b"}}}, {"content", std::string(9000, 'b')}};
  const Tokenizer talkative = Tokenizer::from_json(file.dump(), "t.json");
  EXPECT_TRUE(test::says(test::error_of([&] { talkative.decode(Ids{2}); }), "more than 4112 bytes of a text of 1"));

  file = small_file();
  const Json split = {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}};
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", std::vector<Json>(100'000, split)}};
  EXPECT_TRUE(test::says(error_of(file), "at most 16 of its kind"));

  file = small_file();
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<x>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                            {"special_tokens", {{"<x>", {{"ids", std::vector<int>(65, 9)}}}}}};
  EXPECT_TRUE(test::says(error_of(file), "at most 64 of its kind"));

  file = small_file();
  file["added_tokens"][1]["content"] = std::string(2000, 'a');
  EXPECT_TRUE(test::says(error_of(file), "a string of 1 to 1024 bytes"));
}

// Each key of an object is held against all before it, which is quadratic.
TEST(TokenizerFile, AnObjectOfAMillionKeysIsRefused) {
  std::string text = "{\"rest\":{";
  for (int i = 0; i < 1'000'000; ++i) text += "\"" + std::to_string(i) + "\":0,";
  text.back() = '}';
  EXPECT_TRUE(
      test::says(test::error_of([&] { Tokenizer::from_json(text + "}", "t.json"); }), "with more than 4096 keys"));
}

TEST(TokenizerFile, BrokenJsonIsRefused) {
  EXPECT_THROW(Tokenizer::from_json("{", "t.json"), Error);
  EXPECT_THROW(Tokenizer::from_json("[]", "t.json"), Error);
  EXPECT_THROW(Tokenizer::from_json(R"({"a": 1, "a": 2})", "t.json"), Error);
  EXPECT_THROW(Tokenizer::from_json(std::string(100000, '['), "t.json"), Error);
  EXPECT_THROW(Tokenizer::from_json(R"({"model": {"vocab": {}, "vocab": {}}})", "t.json"), Error);
  EXPECT_THROW(Tokenizer::from_json(R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": [], "type": "BPE"}})", "t.json"),
               Error);
  EXPECT_THROW(Tokenizer::from_file("/no/such/tokenizer.json"), Error);
}

TEST(TokenizerFile, BytesThatAreNoJsonTextAreRefused) {
  const std::string good = small_file().dump();
  const auto refusal = [](const std::string& text) {
    return test::error_of([&] { Tokenizer::from_json(text, "t.json"); });
  };
  EXPECT_EQ(refusal(good), "");
  EXPECT_TRUE(test::says(refusal(good + std::string("\0 anything", 10)), "t.json: a NUL byte at offset"));
  EXPECT_TRUE(test::says(refusal("\xEF\xBB\xBF" + good), "t.json: starts with a UTF-8 byte order mark"));
  EXPECT_TRUE(test::says(refusal("{\"\xff\":1}"), "t.json: not valid JSON"));
  EXPECT_TRUE(test::says(refusal(good + "{}"), "t.json: not valid JSON"));
}

TEST(TokenizerFile, OnlyRegularFilesOfABoundedSizeAreRead) {
  const test::TempFolder folder;
  const auto refusal = [](const std::string& path) { return test::error_of([&] { Tokenizer::from_file(path); }); };
  test::write_bytes(folder / "t.json", "{");
  // More than there is memory: reading it before looking at its size would throw bad_alloc.
  std::filesystem::resize_file(folder / "t.json", std::uintmax_t{1} << 40);
  EXPECT_TRUE(test::says(refusal(folder / "t.json"), "t.json: 1099511627776 bytes, at most 268435456 are read"));
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(refusal(folder / "fifo"), (folder / "fifo") + ": not a regular file");
}

}  // namespace
}  // namespace bezel::data
