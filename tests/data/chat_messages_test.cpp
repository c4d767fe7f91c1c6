#include "bezel/data/chat_messages.h"

#include <string>

#include <gtest/gtest.h>

namespace bezel::data {
namespace {

// All 29 characters for which Python's str.strip() gives "".
TEST(Trimmed, TakesOffWhatPythonDoes) {
  for (const char* blank : {"\t",           "\n",           "\v",           "\f",           "\r",
                            "\x1C",         "\x1D",         "\x1E",         "\x1F",         " ",
                            "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
                            "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
                            "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
                            "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    EXPECT_EQ(trimmed(std::string(blank) + "a" + blank + "b" + blank + blank), "a" + std::string(blank) + "b");
    EXPECT_EQ(trimmed(blank), "");
  }
  EXPECT_EQ(trimmed(""), "");
}

TEST(Trimmed, LeavesOtherCharacters) {
  // A zero width space, a byte order mark and U+180E are no blanks to Python.
  for (const char* text : {"\xE2\x80\x8B", "\xEF\xBB\xBF", "\xE1\xA0\x8E", "\xE6\x97\xA5", "\x1B", "\xF0\x9F\xA4\x96"})
    EXPECT_EQ(trimmed(std::string(" ") + text + " "), text);
}

TEST(Trimmed, CharactersThatAreCutAreKept) {
  for (const char* text : {"a\xE3\x80", "\xE3", "a\xC2", "\x80"}) EXPECT_EQ(trimmed(text), text);
}

}  // namespace
}  // namespace bezel::data
