#include "bezel/generate/text_stream.h"

#include <gtest/gtest.h>

#include "bezel/data/utf8.h"

namespace bezel::generate {
namespace {

const data::Tokenizer& tokenizer() {
  static const data::Tokenizer read = data::Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json");
  return read;
}

std::int64_t byte_token(int byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", byte);
  return tokenizer().token_id(name).value();
}

std::vector<std::int64_t> byte_tokens(const std::string& bytes) {
  std::vector<std::int64_t> tokens;
  for (const char byte : bytes) tokens.push_back(byte_token(static_cast<unsigned char>(byte)));
  return tokens;
}

std::string streamed(const std::vector<std::int64_t>& tokens, bool skip_special = false) {
  TextStream stream(tokenizer(), skip_special);
  std::string all;
  for (const std::int64_t token : tokens) {
    const std::string piece = stream.push(token);
    EXPECT_EQ(data::find_invalid_utf8(piece), std::string::npos);
    all += piece;
  }
  return all + stream.finish();
}

TEST(TextStream, HoldsBytesBackUntilTheirCharacterIsWhole) {
  TextStream stream(tokenizer(), false);
  const auto tokens = byte_tokens("\xF0\x9F\xA4\x96");  // a robot
  for (int i = 0; i < 3; ++i) EXPECT_EQ(stream.push(tokens[i]), "");
  EXPECT_EQ(stream.push(tokens[3]), "\xF0\x9F\xA4\x96");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, PiecesTogetherAreTheText) {
  for (const std::string text :
       {"Hello, world!", "naïve café", "日本語 and 한국어", "🤖🧪 emoji", "  two  spaces\n\n\ttab", ""})
    EXPECT_EQ(streamed(tokenizer().encode(text).ids), text);
}

TEST(TextStream, GivesUpOnBytesThatAreNoCharacter) {
  EXPECT_EQ(streamed(byte_tokens("\xFF")), "\xEF\xBF\xBD");
  auto tokens = byte_tokens("\xE2\x82");
  tokens.push_back(tokenizer().encode("a").ids.at(0));
  EXPECT_EQ(streamed(tokens), tokenizer().decode(tokens));
  const auto six = byte_tokens("\xFF\xFF\xFF\xFF\xFF\xFF");
  EXPECT_EQ(streamed(six), tokenizer().decode(six));
}

TEST(TextStream, TokensBeyondTheVocabularyHaveNoText) {
  auto tokens = tokenizer().encode("ab").ids;
  tokens.insert(tokens.begin(), tokenizer().vocab_size());
  tokens.push_back(tokenizer().vocab_size() + 5);
  EXPECT_EQ(streamed(tokens), "ab");
}

TEST(TextStream, SpecialTokensHaveNoTextWhereTheyAreSkipped) {
  auto tokens = tokenizer().encode("a<turn|>b").ids;
  EXPECT_EQ(streamed(tokens), "a<turn|>b");
  EXPECT_EQ(streamed(tokens, true), "ab");
}

}  // namespace
}  // namespace bezel::generate
