#include "bezel/io/atomic_folder.h"

#include <set>

#include <gtest/gtest.h>

#include "bezel/io/atomic_write.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::read_bytes;
using test::says;
using test::TempFolder;
using test::write_bytes;

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

void write_one(const std::string& path, const std::string& file, const std::string& text) {
  write_folder_atomically(path, [&](const std::string& folder) { write_file_atomically(folder + "/" + file, text); });
}

TEST(AtomicFolder, AppearsAndReplacesAsAWhole) {
  const TempFolder folder;
  write_one(folder / "a", "old", "1");
  EXPECT_EQ(read_bytes(folder / "a/old"), "1");
  write_one(folder / "a", "new", "2");
  EXPECT_EQ(names_in(folder / "a"), std::set<std::string>{"new"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a"});
}

TEST(AtomicFolder, StaysAsItWasWhenFillingThrows) {
  const TempFolder folder;
  write_one(folder / "a", "old", "1");
  const auto fill = [](const std::string& at) {
    write_file_atomically(at + "/new", "2");
    throw Error("changed my mind");
  };
  EXPECT_EQ(error_of([&] { write_folder_atomically(folder / "a", fill); }), "changed my mind");
  EXPECT_EQ(names_in(folder / "a"), std::set<std::string>{"old"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a"});
}

TEST(AtomicFolder, WritesOverWhatAKilledProcessLeft) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "a.tmp/sub");
  write_one(folder / "a", "new", "2");
  EXPECT_EQ(names_in(folder / "a"), std::set<std::string>{"new"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a"});
}

TEST(AtomicFolder, SaysThatTheParentIsMissing) {
  const TempFolder folder;
  EXPECT_TRUE(
      says(error_of([&] { write_one(folder / "none/a", "x", ""); }), "none/a: cannot be written: No such file"));
}

TEST(AtomicFolder, RemovesAndDoesNotMindThatItIsGone) {
  const TempFolder folder;
  write_one(folder / "a", "x", "1");
  remove_folder(folder / "a");
  remove_folder(folder / "a");
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(AtomicFolder, LeftoversGoAndAllElseStays) {
  const TempFolder folder;
  for (const char* name : {"checkpoint-3.tmp", "checkpoint-3", "mine.tmp"})
    std::filesystem::create_directories((folder / name) + "/sub");
  for (const char* name : {"a.json.12-0.tmp", "notes.tmp", "a.12.tmp", "a.json.12-.tmp", "checkpoint-4.tmp.txt"})
    write_bytes(folder / name, "x");
  const std::vector<std::string> removed = remove_leftovers(folder.path().string(), "checkpoint-");
  EXPECT_EQ(std::set<std::string>(removed.begin(), removed.end()),
            (std::set<std::string>{"checkpoint-3.tmp", "a.json.12-0.tmp"}));
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"checkpoint-3", "mine.tmp", "notes.tmp", "a.12.tmp",
                                                            "a.json.12-.tmp", "checkpoint-4.tmp.txt"}));
}

}  // namespace
}  // namespace bezel::io
