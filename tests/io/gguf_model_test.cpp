#include "bezel/io/gguf_model.h"

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::GgufBytes;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

std::string part_name(int number) { return "m-0000" + std::to_string(number) + "-of-00003.gguf"; }

void write_part(const TempFolder& folder, int file, int number, const std::string& tensor, int tensors = 3) {
  GgufBytes bytes;
  bytes.key("split.no", 2, raw<std::uint16_t>(static_cast<std::uint16_t>(number - 1)));
  bytes.key("split.count", 2, raw<std::uint16_t>(3)).key("split.tensors.count", 5, raw<std::int32_t>(tensors));
  bytes.tensor(tensor, {8}, 0, std::string(32, 'x'));
  write_bytes(folder / part_name(file), bytes.bytes());
}

void write_parts(const TempFolder& folder, int tensors = 3) {
  write_part(folder, 1, 1, "a", tensors);
  write_part(folder, 2, 2, "b", tensors);
  write_part(folder, 3, 3, "c", tensors);
}

std::string complaint(const TempFolder& folder, int number = 1) {
  return error_of([&] { GgufModel::open(folder / part_name(number)); });
}

TEST(GgufModelTest, OpensAllParts) {
  const TempFolder folder;
  write_parts(folder);
  const GgufModel model = GgufModel::open(folder / part_name(1));
  ASSERT_EQ(model.entries().size(), 3u);
  ASSERT_NE(model.find("c"), nullptr);
  EXPECT_EQ(model.find("c")->file->path(), folder / part_name(3));
  EXPECT_EQ(model.find("d"), nullptr);
}

TEST(GgufModelTest, OneFileIsOnePart) {
  const TempFolder folder;
  write_bytes(folder / "m.gguf", GgufBytes().tensor("a", {8}, 0, std::string(32, 'x')).bytes());
  EXPECT_EQ(GgufModel::open(folder / "m.gguf").parts().size(), 1u);
}

TEST(GgufModelTest, NamesTheMissingPart) {
  const TempFolder folder;
  write_parts(folder);
  std::filesystem::remove(folder / part_name(2));
  EXPECT_TRUE(says(complaint(folder), folder / part_name(2)));
  EXPECT_TRUE(says(complaint(folder), "missing"));
}

TEST(GgufModelTest, AsksForTheFirstPart) {
  const TempFolder folder;
  write_parts(folder);
  EXPECT_TRUE(says(complaint(folder, 2), "name its first part, …-00001-of-00003.gguf"));
}

TEST(GgufModelTest, RefusesPartsOfOtherPlacesAndNames) {
  const TempFolder folder;
  write_parts(folder);
  write_part(folder, 3, 2, "c");
  EXPECT_TRUE(says(complaint(folder), part_name(3) + ": holds part 2 of 3, expected part 3 of 3"));
  write_part(folder, 3, 3, "a");
  EXPECT_TRUE(says(complaint(folder), "tensor 'a' is also in a part before it"));
  std::filesystem::rename(folder / part_name(1), folder / "first.gguf");
  EXPECT_TRUE(says(error_of([&] { GgufModel::open(folder / "first.gguf"); }), "must end in -00001-of-00003.gguf"));
}

TEST(GgufModelTest, RefusesAnotherNumberOfTensors) {
  const TempFolder folder;
  write_parts(folder, 4);
  EXPECT_TRUE(says(complaint(folder), "hold 3 tensors, key 'split.tensors.count' says 4"));
}

GgufBytes language_model() {
  GgufBytes bytes;
  bytes.key("general.architecture", "gemma4").key("gemma4.embedding_length", 8);
  return bytes.tensor("a", {8}, 0, std::string(32, 'x'));
}

GgufBytes towers(std::uint32_t width, const std::string& tensor = "v.patch_embd.weight",
                 const std::string& projector = "gemma4v") {
  GgufBytes bytes;
  bytes.key("clip.vision.projector_type", projector).key("clip.vision.projection_dim", width);
  return bytes.tensor(tensor, {8}, 0, std::string(32, 'y'));
}

/// The towers that are opened with m.gguf, by name of their file; "" for none.
std::string towers_with(const TempFolder& folder) {
  const GgufModel model = GgufModel::open(folder / "m.gguf");
  if (model.towers() == nullptr) {
    EXPECT_EQ(model.entries().size(), 1u);
    return "";
  }
  EXPECT_EQ(model.find("v.patch_embd.weight")->file.get(), model.towers());
  EXPECT_EQ(model.parts().size(), 1u);
  return std::filesystem::path(model.towers()->path()).filename().string();
}

TEST(GgufModelTest, TowersAreThoseOfItsNameOrTheOnlyOnes) {
  const TempFolder folder;
  write_bytes(folder / "m.gguf", language_model().bytes());
  EXPECT_EQ(towers_with(folder), "");
  write_bytes(folder / "mmproj-F16.gguf", towers(8).bytes());
  EXPECT_EQ(towers_with(folder), "mmproj-F16.gguf");
  write_bytes(folder / "mmproj-BF16.gguf", towers(8).bytes());
  EXPECT_EQ(towers_with(folder), "");  // which?
  write_bytes(folder / "mmproj-m.gguf", towers(8).bytes());
  EXPECT_EQ(towers_with(folder), "mmproj-m.gguf");
}

TEST(GgufModelTest, TowersOfOtherModelsStayAside) {
  const TempFolder folder;
  write_bytes(folder / "m.gguf", language_model().bytes());
  write_bytes(folder / "mmproj-m.gguf", towers(16).bytes());
  EXPECT_EQ(towers_with(folder), "");
  write_bytes(folder / "mmproj-m.gguf", GgufBytes().key("clip.projector_type", "gemma3").bytes());
  EXPECT_EQ(towers_with(folder), "");
}

TEST(GgufModelTest, TakesTheTowersThatAreNamed) {
  const TempFolder folder, other;
  write_bytes(folder / "m.gguf", language_model().bytes());
  write_bytes(folder / "mmproj-m.gguf", towers(8, "v.std_bias").bytes());
  write_bytes(other / "named.gguf", towers(8).bytes());
  const GgufModel model = GgufModel::open(folder / "m.gguf", other / "named.gguf");
  EXPECT_EQ(model.towers()->path(), other / "named.gguf");
  EXPECT_EQ(model.find("v.std_bias"), nullptr);
  write_bytes(other / "named.gguf", towers(16).bytes());
  const std::string refused = error_of([&] { GgufModel::open(folder / "m.gguf", other / "named.gguf"); });
  EXPECT_TRUE(says(refused, other / "named.gguf"));
  EXPECT_TRUE(says(refused, "gemma4v or gemma4a, or the 12B's gemma4uv or gemma4ua, and"));
  EXPECT_TRUE(says(refused, "projection_dim 8, found clip.vision gemma4v and 16, clip.audio none and none"));
  EXPECT_TRUE(says(error_of([&] { GgufModel::open(folder / "m.gguf", folder / "m.gguf"); }), "not the towers of"));
}

TEST(GgufModelTest, EmbeddersAreOfModelsThatCanBeThe12B) {
  const TempFolder folder;
  const std::string towers_path = folder / "mmproj-m.gguf";
  write_bytes(towers_path, towers(8, "v.patch_embd.weight", "gemma4uv").bytes());
  write_bytes(folder / "m.gguf",
              language_model().key("gemma4.embedding_length_per_layer_input", 0).key("gemma4.expert_count", 0).bytes());
  EXPECT_EQ(towers_with(folder), "mmproj-m.gguf");
  for (const char* key : {"gemma4.embedding_length_per_layer_input", "gemma4.expert_count"}) {
    write_bytes(folder / "m.gguf", language_model().key(key, 2).bytes());
    EXPECT_EQ(towers_with(folder), "");
    EXPECT_TRUE(says(error_of([&] { GgufModel::open(folder / "m.gguf", towers_path); }),
                     "expected projector_type gemma4v or gemma4a and projection_dim 8, found clip.vision gemma4uv"));
  }
}

TEST(GgufModelTest, RefusesDamagedTowersByName) {
  const TempFolder folder;
  write_bytes(folder / "m.gguf", language_model().bytes());
  write_bytes(folder / "mmproj-m.gguf", "GGU");
  EXPECT_TRUE(says(error_of([&] { GgufModel::open(folder / "m.gguf"); }), folder / "mmproj-m.gguf"));
  write_bytes(folder / "mmproj-m.gguf", towers(8, "a").bytes());
  EXPECT_TRUE(says(error_of([&] { GgufModel::open(folder / "m.gguf"); }), "tensor 'a' is also in"));
}

}  // namespace
}  // namespace bezel::io
