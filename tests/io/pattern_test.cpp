#include "bezel/io/pattern.h"

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::io {
namespace {

bool matches(const std::string& pattern, const std::string& text) { return Pattern(pattern, "key").matches(text); }

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

std::string error_of(const std::string& pattern) {
  try {
    const Pattern compiled(pattern, "key");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "accepted";
}

TEST(Pattern, FollowsPython) {
  EXPECT_TRUE(matches(R"(model\.layers\.\d+\.(?:q|v)_proj)", "model.layers.12.v_proj"));
  EXPECT_FALSE(matches(R"(layers\.\d+\.q_proj)", "model.layers.12.q_proj"));
  EXPECT_TRUE(matches(R"((?P<tower>vision|audio)\.q(?!x).*)", "vision.q_proj"));
  EXPECT_FALSE(matches(R"((?P<tower>vision|audio)\.q(?!x).*)", "vision.qx_proj"));
  EXPECT_TRUE(matches(R"(\Amodel.*[qv]_proj\Z)", "model.v_proj"));
  EXPECT_TRUE(matches(R"(layers\.(1[0-5]|\d)\.[^\].]{1,3})", "layers.14.abc"));
  EXPECT_FALSE(matches("(ab){2,}c", "abc"));
  EXPECT_TRUE(Pattern("model", "key").matches_begin("model.layers"));
  EXPECT_FALSE(Pattern("layers", "key").matches_begin("model.layers"));
}

TEST(Pattern, WhatEcmascriptLacksIsRefusedByName) {
  EXPECT_NE(error_of("(?i)q_proj").find("key: regex '(?i)q_proj': inline flags"), std::string::npos);
  EXPECT_NE(error_of("(?<=a)b").find("look-behind"), std::string::npos);
  EXPECT_NE(error_of("(?P=name)").find("by name"), std::string::npos);
  EXPECT_NE(error_of(R"((a)\1)").find("references to groups"), std::string::npos);
  EXPECT_NE(error_of("a(?P<x").find("no end"), std::string::npos);
  EXPECT_NE(error_of("[]a]").find("backslash"), std::string::npos);
  for (const char* broken : {"(", ")", "(a", "a)", "[a", "a{", "a{x}", "*", "\\", "[b-a]"})
    EXPECT_NE(error_of(broken), "accepted") << broken;
}

// With the usual way of matching, each of these takes longer than the world is old.
TEST(Pattern, NoPatternTakesExponentialTime) {
  const std::string text(60, 'a');
  EXPECT_FALSE(matches("(a*)*b", text));
  EXPECT_FALSE(matches("(a|a)*b", text));
  EXPECT_FALSE(matches("(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x", text));
  EXPECT_TRUE(matches(repeated("a?", 60) + repeated("a", 60), text));
}

TEST(Pattern, SizeAndDepthAreBounded) {
  EXPECT_NE(error_of(std::string(10000, 'a')).find("8192"), std::string::npos);
  EXPECT_NE(error_of("(((a{100}){100}){100}){100}").find("written out"), std::string::npos);
  EXPECT_NE(error_of("a{99999999999999999999}").find("'{'"), std::string::npos);
  EXPECT_NE(error_of("a{1,9000}").find("written out"), std::string::npos);
  EXPECT_NE(error_of(repeated("(", 40) + repeated(")", 40)).find("inside each other"), std::string::npos);
  EXPECT_NE(error_of(repeated("(", 4000)).find("inside each other"), std::string::npos);
  EXPECT_EQ(error_of(repeated("(", 20) + "a" + repeated(")", 20)), "accepted");
  EXPECT_FALSE(matches(repeated("(.?)", 1500), std::string(1501, 'a')));
}

}  // namespace
}  // namespace bezel::io
