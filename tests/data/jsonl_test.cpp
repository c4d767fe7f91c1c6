#include "bezel/data/jsonl.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

class Jsonl : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "bezel_jsonl_" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    path_ = folder_ + "/t.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }

  std::string folder_;
  std::string path_;
};

TEST_F(Jsonl, CountsLinesAsAnEditorDoes) {
  write("\xEF\xBB\xBF{\"a\":1}\r\n\r\n  \n{\"b\":2}\n{\"c\":3}");
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(file.read(0), "{\"a\":1}");
  EXPECT_EQ(file.read(1), "{\"b\":2}");
  EXPECT_EQ(file.read(2), "{\"c\":3}");
  EXPECT_EQ(file.line_number(1), 4u);
  EXPECT_EQ(file.source(2), path_ + ":5");
}

TEST_F(Jsonl, LinesMayCrossTheReadersChunks) {
  const std::string longest(3 << 20, 'x');
  write("a\n" + longest + "\n\nb\n" + std::string((1 << 20) - 5, 'y') + "\nc\n");
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 5u);
  EXPECT_EQ(file.read(1), longest);
  EXPECT_EQ(file.read(2), "b");
  EXPECT_EQ(file.line_number(2), 4u);
  EXPECT_EQ(file.read(4), "c");
}

TEST_F(Jsonl, AHugeLineIsRefusedWithoutReadingIt) {
  write("a\nb\n");
  std::filesystem::resize_file(path_, 100'000'004);  // a hole of zeros: one long line
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(file.read(1), "b");
  try {
    file.read(2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("t.jsonl:3: a line of 100000000 bytes"), std::string::npos)
        << error.what();
  }
}

TEST_F(Jsonl, AChangedFileIsNoticed) {
  write("a\nb\n");
  const JsonlFile file(path_);
  std::filesystem::resize_file(path_, 2);
  EXPECT_THROW(file.read(1), Error);
  EXPECT_THROW(file.read(0), Error);
}

TEST_F(Jsonl, OnlyRegularFilesAreOpened) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THROW(JsonlFile{path_}, Error);
  EXPECT_THROW(JsonlFile{folder_}, Error);
  EXPECT_THROW(JsonlFile{folder_ + "/none"}, Error);
}

}  // namespace
}  // namespace bezel::data
