#include "bezel/io/manifest.h"

#include <gtest/gtest.h>

#include "bezel/io/json.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::read_bytes;
using test::says;
using test::TempFolder;
using test::write_bytes;

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    write_bytes(folder / "a", "abc");
    write_bytes(folder / "b", std::string(1000, 'b'));
    write_manifest(folder.path().string());
  }

  std::string check() {
    return error_of([&] { check_manifest(folder.path().string()); });
  }

  TempFolder folder;
};

TEST_F(ManifestTest, ListsSizeAndHashOfEveryFile) {
  const Json manifest = read_json_file(folder / "MANIFEST.json");
  EXPECT_EQ(manifest["files"].size(), 2u);
  EXPECT_EQ(manifest["files"]["a"]["bytes"], 3);
  EXPECT_EQ(manifest["files"]["a"]["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(check(), "");
  write_bytes(folder / "a note of mine", "");
  EXPECT_EQ(check(), "");
}

TEST_F(ManifestTest, EveryFlippedBitShows) {
  const std::string good = read_bytes(folder / "a");
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    write_bytes(folder / "a", bad);
    EXPECT_TRUE(says(check(), (folder / "a") + ": its SHA-256 is ")) << bit;
  }
}

TEST_F(ManifestTest, TruncatedAndMissingFilesShow) {
  write_bytes(folder / "b", std::string(999, 'b'));
  EXPECT_TRUE(says(check(), (folder / "b") + ": has 999 bytes, MANIFEST.json says 1000"));
  std::filesystem::remove(folder / "b");
  EXPECT_TRUE(says(check(), (folder / "b") + ": cannot be opened: No such file"));
}

TEST_F(ManifestTest, ABadManifestIsRefused) {
  const std::string good = read_bytes(folder / "MANIFEST.json");
  write_bytes(folder / "MANIFEST.json", good.substr(0, good.size() / 2));
  EXPECT_TRUE(says(check(), "MANIFEST.json: not valid JSON"));
  write_bytes(folder / "MANIFEST.json", R"({"files": {"../a": {"bytes": 3, "sha256": ""}}})");
  EXPECT_TRUE(says(check(), "expected a file of this folder"));
  write_bytes(folder / "MANIFEST.json", R"({"files": {"a": {"bytes": -3, "sha256": ""}}})");
  EXPECT_TRUE(says(check(), "files.a.bytes"));
  std::filesystem::remove(folder / "MANIFEST.json");
  EXPECT_TRUE(says(check(), "MANIFEST.json: No such file"));
}

}  // namespace
}  // namespace bezel::io
