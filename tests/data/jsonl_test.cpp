#include "bezel/data/jsonl.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

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

  /// What opening the file says; "" when it is read.
  std::string refusal() {
    try {
      const JsonlFile file(path_);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  bool refused_with(const std::string& what) { return refusal().find(what) != std::string::npos; }

  std::string folder_;
  std::string path_;
};

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

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

TEST_F(Jsonl, ElementsOfAnArrayAreSamples) {
  write("\xEF\xBB\xBF[\r\n  {\"a\": [1, {\"b\": \"]},{\\\"\"}]},\r\n  {\"c\":\n 2}, {}\n]\n");
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(file.read(0), "{\"a\": [1, {\"b\": \"]},{\\\"\"}]}");
  EXPECT_EQ(file.read(1), "{\"c\":\n 2}");
  EXPECT_EQ(file.read(2), "{}");
  EXPECT_EQ(file.source(1), path_ + ":3 (element 2)");
  EXPECT_EQ(file.source(2), path_ + ":4 (element 3)");
  write("[]");
  EXPECT_EQ(JsonlFile(path_).size(), 0u);
}

TEST_F(Jsonl, ObjectsMayStandOnSeveralLines) {
  write("{\n  \"messages\": [\n    {\n      \"x\": 1\n    }\n  ]\n}\n{\n  \"b\": 2\n}\n");
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 2u);
  EXPECT_EQ(file.read(1), "{\n  \"b\": 2\n}");
  EXPECT_EQ(file.source(0), path_ + ":1");
  EXPECT_EQ(file.source(1), path_ + ":8");
}

TEST_F(Jsonl, ElementsMayCrossTheReadersChunks) {
  const std::string longest = "{\"a\": \"" + std::string(3 << 20, 'x') + "\"}";
  write("[" + longest + ",\n{\"b\": 1}]");
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 2u);
  EXPECT_EQ(file.read(0), longest);
  EXPECT_EQ(file.read(1), "{\"b\": 1}");
}

TEST_F(Jsonl, ABadLineNeverTakesInOthers) {
  // The first line is cut off; those behind it stay samples of their own.
  for (const char* first :
       {"{\"messages\": [{\"role\": \"user\"", "{\"messages\": [", "{", "{\"a\": \"b", "{\"a\": 1]"}) {
    write(std::string(first) + "\n{\"b\":2}\n{\"c\":3}\n");
    const JsonlFile file(path_);
    ASSERT_EQ(file.size(), 3u) << first;
    EXPECT_EQ(file.read(0), first);
    EXPECT_EQ(file.read(2), "{\"c\":3}");
  }
}

TEST_F(Jsonl, SamplesThatCannotBeToldApartAreRefusedWithTheirLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"[\n{\"a\": 1}\n{\"b\": 2}]", "t.jsonl:3: expected a comma"},
      {"[\n{\"a\": 1},\n]", "t.jsonl:3: expected an object"},
      {"[{\"a\": 1}", "t.jsonl:1: the file ends inside the array"},
      {"[{\"a\": 1},\n{\"b\": [1", "t.jsonl:2: the file ends inside the sample that begins on line 2"},
      {"[{\"a\": 1}]\n{\"b\": 2}", "t.jsonl:2: more text after the end of the array"},
      {"[1, 2]", "t.jsonl:1: expected an object"},
      {"[{\"a\": [1}]", "t.jsonl:1: a bracket that does not match"},
      {"[{\"a\": \"x\n\"}]", "t.jsonl:1: the line ends inside a string"},
      {"{\n  \"a\": 1,\n{\n  \"b\": 2\n}",
       "t.jsonl:3: a bracket where a key is expected; the sample that begins on line 1"},
      {"{\n  \"a\": 1\n},\n{\n  \"b\": 2\n}", "t.jsonl:3: expected an object"},
  };
  for (const auto& [text, what] : cases) {
    write(text);
    EXPECT_TRUE(refused_with(what)) << text << "\n" << refusal();
  }
  write("[{\"a\":" + std::string(2000, '[') + "1" + std::string(2000, ']') + "}]");
  EXPECT_TRUE(refused_with("nested too deeply")) << refusal();
}

TEST_F(Jsonl, GzipFilesAreRead) {
  const std::string longest(3 << 20, 'x');
  write(gzip("{\"a\":1}\n" + longest + "\n") + gzip("{\"b\":2}\n"));  // as `cat a.gz b.gz` makes
  const JsonlFile file(path_);
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(file.read(1), longest);
  EXPECT_EQ(file.read(2), "{\"b\":2}");
  EXPECT_EQ(file.source(2), path_ + ":3");
  std::filesystem::resize_file(path_, 2);
  EXPECT_THROW(file.read(0), Error);
  write(gzip("[{\"a\":1},{\"b\":2}]"));
  EXPECT_EQ(JsonlFile(path_).read(1), "{\"b\":2}");
}

TEST_F(Jsonl, DamagedGzipFilesAreRefused) {
  const std::string whole = gzip("{\"a\":1}\n{\"b\":2}\n");
  for (std::size_t size = 2; size < whole.size(); ++size) {
    write(whole.substr(0, size));
    EXPECT_TRUE(refused_with("t.jsonl: the gzip data end too early")) << size << refusal();
  }
  for (std::size_t at = 10; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    write(bad);
    if (refused_with("gzip data")) continue;
    const JsonlFile file(path_);  // the bits that fill up the last byte of the data mean nothing
    EXPECT_EQ(file.size(), 2u) << at;
    EXPECT_EQ(file.read(0) + file.read(1), "{\"a\":1}{\"b\":2}") << at;
  }
}

TEST_F(Jsonl, OtherFormatsAreNamedWithTheCommandThatConvertsThem) {
  using namespace std::string_literals;
  const std::string tar = std::string(257, 'x') + "ustar\0"s + std::string(249, '\0');
  const std::pair<std::string, const char*> cases[] = {
      {"PAR1\x15\x04"s, "a Parquet file"},
      {"ARROW1\0\0\xff\xff\xff\xff"s, "an Arrow file"},
      {"\xff\xff\xff\xff\x10\x01\0\0"s, "Dataset.from_file("},
      {"SQLite format 3\0\x10\0"s, "an SQLite database"},
      {"PK\x03\x04\x14\0a.jsonl"s, "a zip archive"},
      {"PK\x03\x04\x14\0[Content_Types].xml....xl/workbook.xml"s, "an Excel workbook"},
      {tar, "a tar archive"},
      {"\x28\xb5\x2f\xfd\x04\0"s, "compressed by zstd"},
      {"BZh91AY&SY"s, "compressed by bzip2"},
      {"\xfd"
       "7zXZ\0\0\x04"s,
       "compressed by xz"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"s, "git lfs pull"},
      {"\xff\xfe{\0\"\0"s, "iconv -f UTF-16 "},
      {"\xfe\xff\0{\0\""s, "iconv -f UTF-16 "},
      {"{\0\"\0a\0"s, "iconv -f UTF-16LE "},
      {"\0{\0\"\0a"s, "iconv -f UTF-16BE "},
      {"\xff\xfe\0\0{\0\0\0"s, "text in UTF-32"},
  };
  for (const auto& [bytes, what] : cases) {
    write(bytes);
    EXPECT_TRUE(refused_with(what)) << what << "\n" << refusal();
    EXPECT_EQ(refusal().find("PATH"), std::string::npos);
    EXPECT_EQ(refusal().find(path_ + ": "), 0u);
  }
  write(gzip("PAR1"));
  EXPECT_TRUE(refused_with("a Parquet file"));
}

}  // namespace
}  // namespace bezel::data
