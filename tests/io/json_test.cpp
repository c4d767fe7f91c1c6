#include "bezel/io/json.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bezel/error.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "f.json", limits);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Json, KeepsTheOrderOfKeys) {
  const Json value = parse_json(R"({"b":1,"a":{"z":[1,2.5,"x"],"y":null}})", "f.json");
  EXPECT_EQ(value.dump(), R"({"b":1,"a":{"z":[1,2.5,"x"],"y":null}})");
}

TEST(Json, RefusesWhatTheLibraryLetsPass) {
  EXPECT_NE(error_of(R"({"a":1,"a":2})").find("'a' appears twice"), std::string::npos);
  EXPECT_NE(error_of("1e999").find("1e999"), std::string::npos);
  EXPECT_NE(error_of(std::string("\"a\0b\"", 5)).find("NUL"), std::string::npos);
  EXPECT_NE(error_of("\"\xff\"").find("not valid JSON"), std::string::npos);
  EXPECT_NE(error_of("{} {}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(error_of("").find("not valid JSON"), std::string::npos);
  EXPECT_NE(error_of("\xEF\xBB\xBF{}").find("byte order mark"), std::string::npos);
  EXPECT_NE(error_of("[1]", {.max_bytes = 2}).find("at most 2"), std::string::npos);
}

TEST(Json, NumberOfValuesIsCapped) {
  std::string text = "[";
  while (text.size() < 15u << 20) text += "[],";
  EXPECT_NE(error_of(text + "0]").find("more values"), std::string::npos);
}

TEST(Json, FindsADuplicateKeyInALargeObject) {
  for (const int repeated : {0, 7, 8, 9, 99}) {
    std::string text = "{";
    for (int i = 0; i < 100; ++i) text += "\"k" + std::to_string(i) + "\":{\"k0\":1},";
    EXPECT_EQ(error_of(text + "\"k\":1}"), "");
    const std::string key = "k" + std::to_string(repeated);
    EXPECT_EQ(error_of(text + "\"" + key + "\":1}"), "f.json: key '" + key + "' appears twice in one object");
  }
}

TEST(Json, DepthIsCapped) {
  EXPECT_EQ(error_of(std::string(64, '[') + std::string(64, ']')), "");
  EXPECT_NE(error_of(std::string(65, '[') + std::string(65, ']')).find("nested deeper"), std::string::npos);
  EXPECT_NE(error_of(std::string(1000000, '[')).find("nested deeper"), std::string::npos);
}

TEST(Json, AHugeFileIsRefusedUnread) {
  const test::TempFolder folder;
  const std::string path = folder / "config.json";
  test::write_bytes(path, "{");
  // More than there is memory: reading it before looking at its size would throw bad_alloc.
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40);
  EXPECT_EQ(test::error_of([&] { read_json_file(path); }),
            path + ": 1099511627776 bytes of JSON, at most 16777216 are read");
}

TEST(Json, OnlyRegularFilesAreRead) {
  const test::TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder / "fifo", folder.path().string(), std::string("/dev/zero")})
    EXPECT_EQ(test::error_of([&] { read_json_file(path); }), path + ": not a regular file");
}

TEST(Json, CountsAreNeverConverted) {
  for (const char* text :
       {"-1", "2.0", "1e3", "18446744073709551616", "9223372036854775808", "\"3\"", "null", "true"}) {
    const Json value = parse_json(text, "f.json");
    EXPECT_THROW(JsonView(value, "f.json", "n").whole(), Error) << text;
  }
  const Json value = parse_json("7", "f.json");
  EXPECT_EQ(JsonView(value, "f.json").whole(0, 7), 7);
  EXPECT_THROW(JsonView(value, "f.json").whole(0, 6), Error);
}

TEST(Json, ErrorsNameFileAndKey) {
  const Json value = parse_json(R"({"a":{"n":-1}})", "f.json");
  const JsonView view(value, "f.json");
  try {
    view.at("a").at("n").whole();
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "f.json: key 'a.n': got -1, expected a whole number of at least 0");
  }
  EXPECT_THROW(view.at("missing"), Error);
  EXPECT_FALSE(view.find("missing").has_value());
}

TEST(Json, BigIntegersKeepTheirDigitsWhereAsked) {
  JsonLimits limits;
  limits.keeps_big_integers = true;
  const Json json = parse_json(
      R"({"a":[18446744073709551616,-99999999999999999999],"b":18446744073709551615,"c":1e30})", "t", limits);
  EXPECT_EQ(big_integer(json["a"][0]), "18446744073709551616");
  EXPECT_EQ(big_integer(json["a"][1]), "-99999999999999999999");
  EXPECT_EQ(json["b"], 18446744073709551615u);
  EXPECT_EQ(big_integer(json["b"]), std::nullopt);
  EXPECT_EQ(json["c"], 1e30);
  EXPECT_EQ(dump_json(json, "t"),
            R"({"a":[18446744073709551616,-99999999999999999999],"b":18446744073709551615,"c":1e+30})");
  EXPECT_EQ(JsonView(json["a"][0], "t").number(), 18446744073709551616.0);
  EXPECT_THROW(JsonView(json["a"][0], "t").whole(), Error);
  EXPECT_EQ(parse_json("18446744073709551616", "t"), 18446744073709551616.0);
  EXPECT_EQ(big_integer(parse_json(std::string(300, '9'), "t", limits)), std::string(300, '9'));
  EXPECT_THROW(parse_json(std::string(400, '9'), "t", limits), Error);  // as ever: beyond the largest double
}

}  // namespace
}  // namespace bezel::io
