#include "bezel/io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::TempFolder;
using test::write_bytes;

TEST(MappedFile, HasTheBytesOfTheFile) {
  const TempFolder folder;
  write_bytes(folder / "a", std::string("x\0y", 3));
  const auto map = MappedFile::open(folder / "a");
  ASSERT_EQ(map->size_bytes(), 3u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(map->data()), 3), std::string("x\0y", 3));
}

TEST(MappedFile, MapsAnEmptyFile) {
  const TempFolder folder;
  write_bytes(folder / "a", "");
  EXPECT_EQ(MappedFile::open(folder / "a")->size_bytes(), 0u);
}

TEST(MappedFile, RefusesWhatIsNoRegularFileWithoutBlocking) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder / "fifo", folder.path().string(), std::string("/dev/zero")})
    EXPECT_EQ(error_of([&] { MappedFile::open(path); }), path + ": not a regular file");
}

TEST(MappedFile, SaysWhyAFileCannotBeOpened) {
  const TempFolder folder;
  try {
    MappedFile::open(folder / "none");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos);
  }
}

TEST(MappedFile, StaysReadableWhenTheFileIsReplaced) {
  const TempFolder folder;
  write_bytes(folder / "a", "old");
  const auto map = MappedFile::open(folder / "a");
  write_bytes(folder / "b", "new");
  std::filesystem::rename(folder / "b", folder / "a");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(map->data()), 3), "old");
}

}  // namespace
}  // namespace bezel::io
