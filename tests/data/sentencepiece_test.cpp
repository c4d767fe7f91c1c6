#include "bezel/data/sentencepiece.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::raw;
using test::says;
using namespace std::string_literals;

std::string field(char tag, const std::string& bytes) {
  return std::string(1, tag) + static_cast<char>(bytes.size()) + bytes;
}

std::string complaint(const std::string& bytes) {
  return error_of([&] { parse_sentencepiece(bytes, "tokenizer.model"); });
}

TEST(SentencePiece, ReadsWordsAndPassesOverTheRest) {
  const std::string trainer = field(0x12, "\x08\x01"), with_double = "\x19"s + raw(2.0);
  const std::string bytes = field(0x0a, field(0x0a, "▁a") + "\x15" + raw(-3.5f)) + trainer +
                            field(0x0a, field(0x0a, "<0x0A>") + with_double + "\x18\x06");
  const auto pieces = parse_sentencepiece(bytes, "tokenizer.model");
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].text, "▁a");
  EXPECT_EQ(pieces[0].score, -3.5f);
  EXPECT_EQ(pieces[0].type, SentencePiece::Type::kNormal);
  EXPECT_EQ(pieces[1].text, "<0x0A>");
  EXPECT_EQ(pieces[1].type, SentencePiece::Type::kByte);
}

TEST(SentencePiece, RefusesDamagedModels) {
  EXPECT_TRUE(says(complaint(""), "tokenizer.model: not a SentencePiece model, or a damaged one: it has no words"));
  EXPECT_TRUE(says(complaint("\x0a\x7f"), "past the end"));
  EXPECT_TRUE(says(complaint("\x0a" + std::string(10, '\xff')), "more than 64 bits"));
  EXPECT_TRUE(says(complaint("\x0b"), "of a kind that no SentencePiece model has"));
  EXPECT_TRUE(says(complaint(field(0x0a, "\x18\x07")), "word 0 has a type"));
  EXPECT_TRUE(says(complaint(field(0x0a, field(0x0a, "\xff"))), "word 0 is longer than 1,024 bytes or no UTF-8"));
  EXPECT_TRUE(says(complaint(field(0x0a, "\x15" + raw(std::numeric_limits<float>::quiet_NaN()))), "NaN or Inf"));
}

}  // namespace
}  // namespace bezel::data
