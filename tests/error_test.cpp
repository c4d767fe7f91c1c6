#include "bezel/error.h"

#include <gtest/gtest.h>

namespace bezel {
namespace {

TEST(Error, MessagesAreOneLineOfUtf8) {
  EXPECT_STREQ(Error("a.json: key '", "gr\xFC\xDF", "'").what(), "a.json: key 'gr\\xfc\\xdf'");
  EXPECT_STREQ(Error("a\nb\x1B[1m\x7F").what(), "a\\x0ab\\x1b[1m\\x7f");
  EXPECT_STREQ(Error(std::string("a\0b", 3)).what(), "a\\x00b");
}

TEST(Printable, ValidTextStaysAsItIs) {
  for (const char* text : {"", "plain \\x41", "na\u00EFve \u65E5\u672C \U0001F44B", "\uD7FF\uE000\U0010FFFF", "\u00A0"})
    EXPECT_EQ(printable(text), text);
}

// By table 3-7 of the Unicode standard.
TEST(Printable, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xE0\x80\xAF"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(printable("\xF0\x8F\xBF\xBF"), "\\xf0\\x8f\\xbf\\xbf");  // overlong
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("a\xE2\x82"), "a\\xe2\\x82");                  // cut off
  EXPECT_EQ(printable("\xE2\x82"
                      "b\x82"),
            "\\xe2\\x82"
            "b\\x82");  // cut off, and a lone rest
  EXPECT_EQ(printable("\xFF\xFE"), "\\xff\\xfe");
}

TEST(Printable, ControlsOfSeveralBytesAreEscaped) {
  EXPECT_EQ(printable("\u0085\u009B\u2028"), "\\xc2\\x85\\xc2\\x9b\\xe2\\x80\\xa8");
}

}  // namespace
}  // namespace bezel
