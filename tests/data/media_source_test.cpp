#include "bezel/data/media_source.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bezel/error.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

class MediaPath : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::weakly_canonical(::testing::TempDir() + "bezel_media_" + std::to_string(::getpid()));
    fs::create_directories(folder_ / "root/sub");
    std::ofstream(folder_ / "root/sub/a.png") << "x";
    std::ofstream(folder_ / "secret.png") << "x";
    std::ofstream(folder_ / "root.png") << "x";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string resolve(const std::string& path) { return resolve_media_path(root(), path, "t.jsonl:7"); }
  std::string refusal(const std::string& path) {
    try {
      resolve(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  std::string root() const { return (folder_ / "root").string(); }

  fs::path folder_;
};

TEST_F(MediaPath, FilesBelowTheRootAreFound) {
  EXPECT_EQ(resolve("sub/a.png"), root() + "/sub/a.png");
  EXPECT_EQ(resolve("./sub//a.png"), root() + "/sub/a.png");
  fs::create_symlink("sub/a.png", folder_ / "root/inside.png");
  EXPECT_EQ(resolve("inside.png"), root() + "/sub/a.png");
}

TEST_F(MediaPath, EverySpellingOfAFileInsideIsFound) {
  const std::string file = root() + "/sub/a.png";
  EXPECT_EQ(resolve(file), file);
  EXPECT_EQ(resolve("file://" + file), file);
  EXPECT_EQ(resolve("file://" + root() + "/sub/%61.png"), file);
  EXPECT_EQ(resolve("sub/../sub/a.png"), file);
  EXPECT_EQ(resolve(root() + "/none/../sub/./a.png"), file);
  EXPECT_EQ(resolve_media_path("/", file, "t"), file);
  fs::create_directory_symlink(folder_ / "root", folder_ / "alias");
  EXPECT_EQ(resolve_media_path((folder_ / "alias").string(), (folder_ / "alias/sub/a.png").string(), "t"), file);
  EXPECT_EQ(resolve_media_path((folder_ / "alias").string(), file, "t"), file);
}

TEST_F(MediaPath, EverythingElseIsRefused) {
  EXPECT_NE(refusal((folder_ / "secret.png").string()).find("t.jsonl:7: media path"), std::string::npos);
  EXPECT_NE(refusal("../secret.png").find("'..'"), std::string::npos);
  EXPECT_NE(refusal("sub/../../secret.png").find("'..'"), std::string::npos);
  EXPECT_NE(refusal("sub/..").find("the media root itself"), std::string::npos);
  EXPECT_NE(refusal(root() + "/../secret.png").find("is absolute and leads out"), std::string::npos);
  EXPECT_NE(refusal("file:///%2e%2e/secret.png").find("is absolute and leads out"), std::string::npos);
  EXPECT_NE(refusal("file:///a%00.png").find("NUL"), std::string::npos);
  EXPECT_NE(refusal("file://host/a.png").find("URL"), std::string::npos);
  EXPECT_NE(refusal(root() + "x/a.png").find("is absolute"), std::string::npos);
  EXPECT_NE(refusal("https://example.org/a.png").find("URL"), std::string::npos);
  EXPECT_NE(refusal("file:///etc/passwd").find("is absolute"), std::string::npos);
  EXPECT_NE(refusal("sub").find("not a regular file"), std::string::npos);
  EXPECT_NE(refusal("none.png").find("none.png"), std::string::npos);
  EXPECT_NE(refusal("").find("empty"), std::string::npos);
  EXPECT_NE(refusal(std::string("a\0.png", 6)).find("NUL"), std::string::npos);
}

TEST_F(MediaPath, SymlinksMustNotLeaveTheRoot) {
  fs::create_symlink("../secret.png", folder_ / "root/link.png");
  fs::create_symlink("../root.png", folder_ / "root/sibling.png");  // shares a prefix with the root's name
  fs::create_directory_symlink(folder_, folder_ / "root/up");
  for (const char* path : {"link.png", "sibling.png", "up/secret.png"})
    EXPECT_NE(refusal(path).find("symlink"), std::string::npos) << path;
  ASSERT_EQ(::mkfifo((folder_ / "root/fifo").c_str(), 0600), 0);
  EXPECT_NE(refusal("fifo").find("not a regular file"), std::string::npos);
}

TEST(Base64, DecodesAsTheStandardSays) {
  EXPECT_EQ(decode_base64("Zm9vYmFy", "t"), "foobar");
  EXPECT_EQ(decode_base64("Zm9v\nYg==", "t"), "foob");
  EXPECT_EQ(decode_base64("/+8=", "t"), "\xFF\xEF");
  EXPECT_THROW(decode_base64("Zm9*", "t"), Error);
  EXPECT_THROW(decode_base64("Zg==Zg", "t"), Error);
  EXPECT_THROW(decode_base64("", "t"), Error);
}

}  // namespace
}  // namespace bezel::data
