#include "bezel/data/csv.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "bezel/data/jsonl.h"
#include "bezel/error.h"
#include "bezel/io/json.h"

namespace bezel::data {
namespace {

class Csv : public ::testing::Test {
 protected:
  void SetUp() override { path_ = ::testing::TempDir() + "bezel_csv_" + std::to_string(::getpid()) + ".csv"; }
  void TearDown() override { std::filesystem::remove(path_); }
  JsonlFile open(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return JsonlFile(path_);
  }
  io::Json row(const JsonlFile& file, std::size_t idx) { return io::parse_json(file.read(idx), "row"); }
  std::string refusal(const std::string& text) {
    try {
      const JsonlFile file = open(text);
      for (std::size_t i = 0; i < file.size(); ++i) file.read(i);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string path_;
};

TEST_F(Csv, TheHeaderNamesTheKeys) {
  const JsonlFile file =
      open("\xEF\xBB\xBFinstruction,output\r\n\"Say \"\"a, b\"\"\",x\r\n\r\n5\" pipe,\"two\nlines\"\nlast,y");
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(row(file, 0), (io::Json{{"instruction", "Say \"a, b\""}, {"output", "x"}}));
  EXPECT_EQ(row(file, 1), (io::Json{{"instruction", "5\" pipe"}, {"output", "two\nlines"}}));
  EXPECT_EQ(row(file, 2), (io::Json{{"instruction", "last"}, {"output", "y"}}));
  EXPECT_EQ(file.source(1), path_ + ":4");
  EXPECT_EQ(file.source(2), path_ + ":6");
}

TEST_F(Csv, ListsAndObjectsInCellsAreRead) {
  const JsonlFile file = open(
      "messages,images,text\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": "
      "\"\"Hi\"\"}]\",\"[\"\"a.png\"\"]\",[1]\n[oops,,x\n");
  EXPECT_EQ(row(file, 0)["messages"], (io::Json::array({{{"role", "user"}, {"content", "Hi"}}})));
  EXPECT_EQ(row(file, 0)["images"], io::Json::array({"a.png"}));
  EXPECT_EQ(row(file, 0)["text"], "[1]");
  EXPECT_EQ(row(file, 1)["messages"], "[oops");
  EXPECT_FALSE(row(file, 1).contains("images"));
  const JsonlFile prompts = open("prompt,completion\n[1],\"[{\"\"role\"\": \"\"user\"\"}]\"\n");
  EXPECT_EQ(row(prompts, 0)["prompt"], "[1]");
  EXPECT_TRUE(row(prompts, 0)["completion"].is_array());
}

TEST_F(Csv, TabsAndSemicolonsSeparateToo) {
  EXPECT_EQ(row(open("prompt;completion\na,b;c\n"), 0), (io::Json{{"prompt", "a,b"}, {"completion", "c"}}));
  EXPECT_EQ(row(open("prompt\tcompletion\na\tc\n"), 0), (io::Json{{"prompt", "a"}, {"completion", "c"}}));
}

TEST_F(Csv, QuotedCellsMayCrossTheReadersChunks) {
  const std::string longest(3 << 20, 'x');
  const JsonlFile file = open("text\n\"" + longest + "\n\"\"\"\nb\n");
  ASSERT_EQ(file.size(), 2u);
  EXPECT_EQ(row(file, 0)["text"], longest + "\n\"");
  EXPECT_EQ(row(file, 1)["text"], "b");
}

TEST_F(Csv, BadTablesAreRefusedWithTheirLine) {
  const std::pair<std::string, const char*> cases[] = {
      {"a,b\n1,2\n1,2,3\n", ".csv:3: 3 cells, but the header names 2 columns"},
      {"a,b\n1,\"open\n2,3\n", ".csv:2: a quote that opens in the record of this line is never closed"},
      {"a,b\n\"x\"y,2\n", ".csv:2: text behind a closing quote"},
      {"a,,c\n1,2,3\n", ".csv:1: column 2 of the header has no name"},
      {"a,a\n1,2\n", ".csv:1: the header names column 'a' twice"},
      {"a,b\n1,caf\xe9\n", ".csv:2: not valid UTF-8"},
  };
  for (const auto& [text, what] : cases)
    EXPECT_NE(refusal(text).find(what), std::string::npos) << text << "\n" << refusal(text);
  EXPECT_EQ(open("").size(), 0u);
  EXPECT_EQ(open("a,b\n").size(), 0u);
}

TEST(CsvPath, IsKnownByItsSuffix) {
  for (const char* path : {"t.csv", "t.tsv", "t.csv.gz"}) EXPECT_TRUE(is_csv_path(path)) << path;
  for (const char* path : {"t.jsonl", "csv", "t.csv.jsonl"}) EXPECT_FALSE(is_csv_path(path)) << path;
}

}  // namespace
}  // namespace bezel::data
