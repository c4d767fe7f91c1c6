#include "bezel/data/sample_files.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::data {
namespace {

class SampleFilesTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    test::write_bytes(folder_ / name, text);
    return folder_ / name;
  }

  test::TempFolder folder_;
  std::string a_ = write("a.jsonl", "{\"text\": \"1\"}\n\n{\"text\": \"2\"}\n");
  std::string empty_ = write("e.jsonl", "\n");
  std::string b_ = write("b.json", "[{\"text\": \"3\"}, {\"text\": \"4\"}, {\"text\": \"5\"}]");
};

TEST_F(SampleFilesTest, LinesOfAllFilesComeOneAfterTheOther) {
  const SampleFiles files({{.path = a_}, {.path = empty_}, {.path = b_, .media_root = "media"}});
  ASSERT_EQ(files.size(), 5u);
  std::string texts;
  for (std::size_t i = 0; i < files.size(); ++i) texts += files.read_json(i)["text"].get<std::string>();
  EXPECT_EQ(texts, "12345");
  EXPECT_EQ(files.source(1), a_ + ":3");
  EXPECT_EQ(files.source(2), b_ + ":1 (element 1)");
  EXPECT_EQ(files.file_idx(1), 0u);
  EXPECT_EQ(files.file_idx(2), 2u) << "not the empty one";
  EXPECT_EQ(files.file(0).media_root, folder_.path().string());
  EXPECT_EQ(files.file(2).media_root, "media");
}

TEST_F(SampleFilesTest, AFirstPartOfAFileCanBeTaken) {
  EXPECT_EQ(SampleFiles({{.path = b_, .max_samples = 2}}).size(), 2u);
  EXPECT_EQ(SampleFiles({{.path = b_, .max_samples = 9}}).size(), 3u);
  EXPECT_EQ(SampleFiles({{.path = b_, .first_share = 0.4}}).size(), 1u);
  const SampleFiles files({{.path = b_, .max_samples = 1}, {.path = a_}});
  EXPECT_EQ(files.source(1), a_ + ":1");
}

TEST_F(SampleFilesTest, ColumnsAreThoseOfEachFile) {
  const SampleFiles files({{.path = a_}, {.path = b_, .columns = {.columns = {{"prompt", "text"}}}}});
  EXPECT_EQ(files.read_json(0), io::Json::parse(R"({"text": "1"})"));
  EXPECT_EQ(files.read_json(2), io::Json::parse(R"({"prompt": "3"})"));
}

TEST_F(SampleFilesTest, TheHashStandsForFilesAndHowTheyAreRead) {
  const auto hash = [](std::vector<SampleFile> files) { return SampleFiles(std::move(files)).sha256(); };
  EXPECT_EQ(hash({{.path = a_}}), JsonlFile(a_).sha256());
  EXPECT_EQ(hash({{.path = a_, .media_root = "x"}}), JsonlFile(a_).sha256());
  EXPECT_NE(hash({{.path = a_}, {.path = b_}}), hash({{.path = b_}, {.path = a_}}));
  EXPECT_NE(hash({{.path = a_, .weight = 2}}), hash({{.path = a_}}));
  EXPECT_NE(hash({{.path = b_, .max_samples = 1}}), hash({{.path = b_}}));
  EXPECT_NE(hash({{.path = a_, .columns = {.columns = {{"prompt", "text"}}}}}), hash({{.path = a_}}));
}

TEST_F(SampleFilesTest, AMissingFileIsNamed) {
  EXPECT_TRUE(test::says(test::error_of([&] { SampleFiles({{.path = a_}, {.path = folder_ / "none"}}); }), "none"));
}

}  // namespace
}  // namespace bezel::data
