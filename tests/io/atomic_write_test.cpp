#include "bezel/io/atomic_write.h"

#include <iterator>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/file_size_limit.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::FileSizeLimit;
using test::read_bytes;
using test::TempFolder;
using test::write_bytes;

std::ptrdiff_t count_files(const TempFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(AtomicWrite, WritesAndReplaces) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "one");
  EXPECT_EQ(read_bytes(folder / "a"), "one");
  write_file_atomically(folder / "a", [](FileSink& sink) {
    sink.write("t");
    sink.write("wo");
  });
  EXPECT_EQ(read_bytes(folder / "a"), "two");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicWrite, ObeysTheUmask) {
  const TempFolder folder;
  const mode_t old_mask = ::umask(027);
  write_file_atomically(folder / "a", "");
  ::umask(old_mask);
  EXPECT_EQ(std::filesystem::status(folder / "a").permissions(), std::filesystem::perms(0640));
}

TEST(AtomicWrite, LeavesTheOldFileWhenFillingThrows) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "old");
  EXPECT_EQ(error_of([&] {
              write_file_atomically(folder / "a", [](FileSink& sink) {
                sink.write("new");
                throw Error("changed my mind");
              });
            }),
            "changed my mind");
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicWrite, LeavesTheOldFileWhenTheDiskTakesNoMore) {
  const TempFolder folder;
  write_file_atomically(folder / "a", "old");
  try {
    const FileSizeLimit limit(4096);
    write_file_atomically(folder / "a", std::string(10'000, 'x'));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_EQ(std::string(error.what()), (folder / "a") + ": cannot be written: File too large");
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicWrite, FollowsASymlink) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "real");
  write_bytes(folder / "real/a", "old");
  std::filesystem::create_symlink("real/a", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_bytes(folder / "real/a"), "new");
}

TEST(AtomicWrite, RefusesToReplaceWhatIsNoFile) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder / "fifo", folder.path().string(), std::string("/dev/null")})
    EXPECT_NE(error_of([&] { write_file_atomically(path, "x"); }).find("cannot be replaced"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "fifo"));
}

TEST(AtomicWrite, SaysThatTheFolderIsMissing) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { write_file_atomically(folder / "none/a", "x"); }),
            (folder / "none/a") + ": cannot be written: No such file or directory");
}

}  // namespace
}  // namespace bezel::io
