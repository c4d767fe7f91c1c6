#include "bezel/io/ocdbt.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/support/ocdbt_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::file_table;
using test::ManifestBytes;
using test::node_of;
using test::says;
using test::TempFolder;
using test::varint;
using test::varints;
using test::write_bytes;

/// Keys "a/x" (inline "in") and "a/y" (three bytes in a data file), the second of which shares two bytes with the
/// first.
std::string leaf(const std::string& path = "d/data", std::uint64_t prefix = 2) {
  return '\0' + file_table({path}) + varint(2) + varint(prefix) + varints({3, 1}) + "a/x" + "y" + varints({2, 3}) +
         varints({0, 1}) + varint(0) + varint(5) + "in";
}

/// Writes a store of one node.
void write_store(const TempFolder& folder, const std::string& node, ManifestBytes manifest = {.num_keys = 2}) {
  std::filesystem::create_directories(folder.path() / "d");
  manifest.length = node.size();
  write_bytes(folder / "manifest.ocdbt", manifest.bytes());
  write_bytes(folder / "d/root", node);
  write_bytes(folder / "d/data", "01234out");
}

std::string complaint(const std::string& node, const ManifestBytes& manifest = {.num_keys = 2}) {
  const TempFolder folder;
  write_store(folder, node, manifest);
  return error_of([&] { Ocdbt::open(folder.path()); });
}

TEST(Ocdbt, ChecksumIsThatOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
}

TEST(Ocdbt, ReadsValuesInsideAndOutsideOfANode) {
  const TempFolder folder;
  write_store(folder, node_of(leaf()));
  const Ocdbt store = Ocdbt::open(folder.path());
  ASSERT_EQ(store.values().size(), 2u);
  EXPECT_EQ(store.find("a/x")->text(10), "in");
  EXPECT_EQ(store.find("a/y")->text(10), "out");
  EXPECT_EQ(store.find("a/y")->slice(1, 2).text(10), "ut");
  EXPECT_EQ(store.find("a/z"), nullptr);
  EXPECT_TRUE(says(error_of([&] { store.find("a/y")->text(2); }), "expected at most 2"));
  EXPECT_TRUE(says(error_of([&] { store.find("a/y")->slice(2, 2); }), "of a value of 3 bytes"));
}

TEST(Ocdbt, PathsOfANodeAreRelativeToTheBaseOfItsFile) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.path() / "host_0" / "d");
  const std::string bottom = node_of(leaf());
  // Both keys begin with "p/", which is stored in the parent alone.
  const std::string top = node_of('\1' + file_table({"host_0/d/leaf"}, {7}) + varint(1) + varint(5) + varint(2) +
                                  "p/a/x" + varints({0, 0, bottom.size(), 2, 0, 3}));
  write_store(folder, top, {.height = 1, .num_keys = 2});
  write_bytes(folder / "host_0/d/leaf", bottom);
  write_bytes(folder / "host_0/d/data", "#####abc");
  const Ocdbt store = Ocdbt::open(folder.path());
  EXPECT_EQ(store.find("p/a/x")->text(10), "in");
  EXPECT_EQ(store.find("p/a/y")->text(10), "abc");
}

TEST(Ocdbt, AStoreWithoutAVersionIsEmpty) {
  const TempFolder folder;
  write_bytes(folder / "manifest.ocdbt", ManifestBytes{}.bytes());
  EXPECT_TRUE(Ocdbt::open(folder.path()).values().empty());
}

TEST(Ocdbt, EveryFlippedByteOfABlockIsRefused) {
  const std::string node = node_of(leaf());
  for (std::size_t i = 0; i < node.size(); ++i) {
    std::string bad = node;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_TRUE(says(complaint(bad), "d/root: node at byte 0")) << i;
  }
  const TempFolder folder;
  const std::string manifest = ManifestBytes{}.bytes();
  for (std::size_t i = 0; i < manifest.size(); ++i) {
    std::string bad = manifest;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    write_bytes(folder / "manifest.ocdbt", bad);
    EXPECT_TRUE(says(error_of([&] { Ocdbt::open(folder.path()); }), "manifest.ocdbt")) << i;
  }
}

TEST(Ocdbt, TruncatedFilesAreRefused) {
  const TempFolder folder;
  write_store(folder, node_of(leaf()));
  write_bytes(folder / "d/data", "01234ou");
  const Ocdbt store = Ocdbt::open(folder.path());
  EXPECT_TRUE(says(error_of([&] { store.find("a/y")->text(10); }), "has 7 bytes, a value of 3 bytes is expected at"));
  write_bytes(folder / "d/root", node_of(leaf()).substr(0, 20));
  EXPECT_TRUE(says(error_of([&] { Ocdbt::open(folder.path()); }), "the file is truncated"));
  std::filesystem::remove(folder.path() / "d/root");
  EXPECT_TRUE(says(error_of([&] { Ocdbt::open(folder.path()); }), "cannot be opened"));
  write_bytes(folder / "manifest.ocdbt", "");
  EXPECT_TRUE(says(error_of([&] { Ocdbt::open(folder.path()); }), "too short"));
}

TEST(Ocdbt, PathsThatLeadOutOfTheFolderAreRefused) {
  for (const char* path : {"../data", "d/../../data", "/data", ""})
    EXPECT_TRUE(says(complaint(node_of(leaf(path))), "is not a path below the checkpoint's folder")) << path;
}

TEST(Ocdbt, ANodeThatContainsItselfIsRefused) {
  // The child of height 0 is the node itself, of height 1.
  const std::size_t length =
      node_of('\1' + file_table({"d/root"}) + varint(1) + varint(1) + varint(0) + "a" + varints({0, 0, 100, 2, 0, 0}))
          .size();
  const std::string node = node_of('\1' + file_table({"d/root"}) + varint(1) + varint(1) + varint(0) + "a" +
                                   varints({0, 0, length, 2, 0, 0}));
  EXPECT_TRUE(says(complaint(node, {.height = 1, .num_keys = 2}), "height is not the one its parent states"));
}

TEST(Ocdbt, WrongNumbersAreRefused) {
  EXPECT_TRUE(says(complaint(node_of(leaf("d/data", 4))), "a prefix is longer than the text before it"));
  EXPECT_TRUE(says(complaint(node_of(leaf()), {.num_keys = 3}), "2 keys, its parent states 3"));
  EXPECT_TRUE(says(complaint(node_of(leaf()), {.height = 200, .num_keys = 2}), "a tree of height 200"));
  EXPECT_TRUE(says(complaint(node_of(leaf() + "x")), "bytes are left over"));
  EXPECT_TRUE(says(complaint(node_of(leaf().substr(0, leaf().size() - 1))), "the block ends within a field"));
  EXPECT_TRUE(says(complaint(node_of(std::string(1, '\0') + std::string(10, '\xff'))), "longer than 64 bits"));
  EXPECT_TRUE(says(complaint(node_of('\0' + varint(std::uint64_t{1} << 60))), "a list is longer than the block"));
  const std::string same_twice =
      '\0' + varint(0) + varint(2) + varint(1) + varints({1, 0}) + "a" + varints({1, 1}) + varints({0, 0}) + "xy";
  EXPECT_TRUE(says(complaint(node_of(same_twice)), "keys are out of order"));
  const std::string no_file = '\0' + varint(0) + varint(1) + varint(1) + "a" + varint(1) + varint(1) + varints({0, 0});
  EXPECT_TRUE(says(complaint(node_of(no_file)), "a data file has a number that the table does not have"));
  const std::string kind = '\0' + varint(0) + varint(1) + varint(1) + "a" + varint(1) + varint(2);
  EXPECT_TRUE(says(complaint(node_of(kind)), "neither inline nor in a data file"));
}

TEST(Ocdbt, OtherFormsAreNamed) {
  EXPECT_TRUE(says(complaint(node_of(leaf(), 7)), "compression 7, expected 0 (none) or 1 (zstd)"));
  EXPECT_TRUE(says(complaint(node_of(leaf()), {.kind = 1, .num_keys = 2}), "manifest kind 1, expected 0"));
  EXPECT_TRUE(says(complaint(test::block_of("\x0c\xdb\x12\x34", 0, leaf())), "not a block of OCDBT"));
}

}  // namespace
}  // namespace bezel::io
