#include "bezel/io/file_watch.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::says;
using test::TempFolder;
using test::write_bytes;

TEST(FileWatch, NamesWhatWasDoneToAFile) {
  const TempFolder folder;
  write_bytes(folder / "a", "abc");
  write_bytes(folder / "b", "abc");
  FileWatch watch;
  watch.add(folder / "a");
  watch.add(folder / "b");
  const auto check = [&] { return error_of([&] { watch.check(); }); };
  EXPECT_EQ(check(), "");

  std::filesystem::resize_file(folder / "b", 1);
  EXPECT_TRUE(says(check(), (folder / "b") + ": went from 3 to 1 bytes"));
  write_bytes(folder / "b", "abd");
  std::filesystem::last_write_time(folder / "b", std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_TRUE(says(check(), (folder / "b") + ": was written to"));
  write_bytes(folder / "new", "abc");
  std::filesystem::rename(folder / "new", folder / "b");
  EXPECT_TRUE(says(check(), (folder / "b") + ": was replaced by another file"));
  std::filesystem::remove(folder / "b");
  EXPECT_TRUE(says(check(), (folder / "b") + ": No such file"));
  EXPECT_TRUE(says(error_of([&] { watch.add(folder / "none"); }), "none: No such file"));
}

}  // namespace
}  // namespace bezel::io
