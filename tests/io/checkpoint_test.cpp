#include "bezel/io/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::says;
using test::TempFolder;
using test::write_bytes;

void write_shard(const std::string& path, const std::vector<std::string>& names) {
  const char byte = 7;
  std::vector<TensorBytes> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::kU8, {1}, &byte, 1});
  write_safetensors(path, tensors);
}

void write_index(const TempFolder& folder, const std::string& weight_map) {
  write_bytes(folder / "model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":{" + weight_map + "}}");
}

std::string complaint(const TempFolder& folder) {
  return error_of([&] { Checkpoint::open(folder.path().string()); });
}

TEST(Checkpoint, OpensASingleFile) {
  const TempFolder folder;
  write_shard(folder / "model.safetensors", {"b", "a"});
  const Checkpoint checkpoint = Checkpoint::open(folder.path().string());
  ASSERT_EQ(checkpoint.entries().size(), 2u);
  EXPECT_EQ(checkpoint.find("a")->info->name, "a");
  EXPECT_EQ(checkpoint.find("c"), nullptr);
}

TEST(Checkpoint, OpensShards) {
  const TempFolder folder;
  write_shard(folder / "s1.safetensors", {"a", "b"});
  write_shard(folder / "s2.safetensors", {"c"});
  write_index(folder, R"("a":"s1.safetensors","c":"s2.safetensors","b":"s1.safetensors")");
  const Checkpoint checkpoint = Checkpoint::open(folder.path().string());
  ASSERT_EQ(checkpoint.entries().size(), 3u);
  EXPECT_EQ(checkpoint.find("a")->file, checkpoint.find("b")->file);
  EXPECT_NE(checkpoint.find("a")->file, checkpoint.find("c")->file);
}

TEST(Checkpoint, SaysWhatItLookedFor) {
  const TempFolder folder;
  EXPECT_TRUE(says(error_of([&] { Checkpoint::open(folder / "none"); }), "no such folder"));
  write_bytes(folder / "file", "");
  EXPECT_TRUE(says(error_of([&] { Checkpoint::open(folder / "file"); }), "not a folder"));
  EXPECT_TRUE(says(complaint(folder), "looked for model.safetensors and model.safetensors.index.json"));
  write_bytes(folder / "adapter_model.safetensors", "");
  EXPECT_TRUE(says(complaint(folder), "holds an adapter"));
  write_bytes(folder / "pytorch_model.bin", "");
  EXPECT_TRUE(says(complaint(folder), "pickle files never"));
}

TEST(Checkpoint, SaysWhatAFolderHoldsInstead) {
  const auto with = [](const std::vector<std::string>& names) {
    const TempFolder folder;
    for (const std::string& name : names) write_bytes(folder / name, "");
    return complaint(folder);
  };
  EXPECT_TRUE(says(with({"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}),
                   "but no model.safetensors.index.json"));
  EXPECT_TRUE(says(with({"gemma.safetensors"}), "rename it to model.safetensors"));
  EXPECT_TRUE(says(with({"gemma-Q4_K_M.gguf"}), "name the file itself"));
  EXPECT_TRUE(says(with({"pytorch_model-00001-of-00002.bin"}), "pickle files never"));
  EXPECT_TRUE(says(with({"consolidated.00.pth"}), "pickle files never"));
  EXPECT_TRUE(says(with({"adapters.safetensors", "adapter_config.json"}), "adapter"));
  EXPECT_TRUE(says(with({"manifest.ocdbt", "_METADATA"}), "bezel convert"));
  EXPECT_TRUE(says(with({"tf_model.h5"}), "save_pretrained"));
  EXPECT_TRUE(says(with({}), "the folder is empty"));
}

TEST(Checkpoint, NamesStandInsForFiles) {
  const TempFolder folder;
  const auto with = [&](const std::string& text) {
    write_bytes(folder / "model.safetensors", text);
    return complaint(folder);
  };
  EXPECT_TRUE(says(with("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "git lfs pull"));
  EXPECT_TRUE(says(with("# xet version 0\nfilesize = 9\n"), "a Xet pointer"));
  EXPECT_TRUE(says(with("\n<!DOCTYPE html><html>"), "a web page"));
  EXPECT_TRUE(says(with("Entry not found"), "'Entry not found'"));
  EXPECT_TRUE(says(with("Invalid username or password."), "log in"));
}

TEST(Checkpoint, TakesTheSingleFileBesideAnIndexAndSaysSo) {
  const TempFolder folder;
  write_shard(folder / "model.safetensors", {"a"});
  EXPECT_TRUE(Checkpoint::open(folder.path().string()).warnings().empty());
  write_index(folder, R"("b":"gone.safetensors")");
  const Checkpoint checkpoint = Checkpoint::open(folder.path().string());
  EXPECT_EQ(checkpoint.entries().size(), 1u);
  ASSERT_EQ(checkpoint.warnings().size(), 1u);
  EXPECT_TRUE(says(checkpoint.warnings()[0], "is not used"));
  fs::remove(folder / "model.safetensors");
  EXPECT_TRUE(says(complaint(folder), "an index of another save?"));
}

TEST(Checkpoint, RefusesShardNamesThatLeadElsewhere) {
  const TempFolder folder;
  write_shard(folder / "s.safetensors", {"a"});
  fs::create_directory(folder / "model");
  for (const std::string& name : {folder / "s.safetensors", std::string("../s.safetensors"), std::string(".."),
                                  std::string("sub/s.safetensors"), std::string("."), std::string("")}) {
    write_bytes(folder / "model/model.safetensors.index.json", "{\"weight_map\":{\"a\":\"" + name + "\"}}");
    EXPECT_TRUE(says(error_of([&] { Checkpoint::open(folder / "model"); }), "key 'weight_map.a'")) << name;
  }
}

TEST(Checkpoint, FollowsLinksInsideTheFolderOnly) {
  const TempFolder folder;
  fs::create_directory(folder / "model");
  write_shard(folder / "outside.safetensors", {"a"});
  write_bytes(folder / "model/model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors"}})");
  fs::create_symlink("../outside.safetensors", folder / "model/s.safetensors");
  EXPECT_TRUE(says(error_of([&] { Checkpoint::open(folder / "model"); }), "outside the checkpoint's folder"));

  fs::rename(folder / "outside.safetensors", folder / "model/real.safetensors");
  fs::remove(folder / "model/s.safetensors");
  fs::create_symlink("real.safetensors", folder / "model/s.safetensors");
  EXPECT_EQ(Checkpoint::open(folder / "model").entries().size(), 1u);
}

TEST(Checkpoint, FollowsTheLinkOfASingleFileInsideTheFolderOnly) {
  const TempFolder folder;
  const std::string link = folder / "model/model.safetensors";
  const auto refusal = [&] { return error_of([&] { Checkpoint::open(folder / "model"); }); };
  fs::create_directory(folder / "model");
  write_shard(folder / "outside.safetensors", {"a"});
  fs::create_symlink("../outside.safetensors", link);
  EXPECT_TRUE(says(refusal(), link + ": a link to "));
  EXPECT_TRUE(says(refusal(), "outside the checkpoint's folder"));

  fs::rename(folder / "outside.safetensors", folder / "model/real.safetensors");
  EXPECT_TRUE(says(refusal(), link + ": No such file or directory (a link that leads nowhere)"));

  fs::remove(link);
  fs::create_symlink("real.safetensors", link);
  EXPECT_EQ(Checkpoint::open(folder / "model").entries().size(), 1u);
}

TEST(Checkpoint, DoesNotTakeAFolderWithALongerNameForItsOwn) {
  const TempFolder folder;
  fs::create_directory(folder / "model");
  fs::create_directory(folder / "model-secret");
  write_shard(folder / "model-secret/s.safetensors", {"a"});
  write_bytes(folder / "model/model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors"}})");
  fs::create_symlink("../model-secret/s.safetensors", folder / "model/s.safetensors");
  EXPECT_TRUE(says(error_of([&] { Checkpoint::open(folder / "model"); }), "outside the checkpoint's folder"));
}

TEST(Checkpoint, OpensTheHuggingFaceCache) {
  const TempFolder folder;
  fs::create_directories(folder / "hub/snapshots/abc");
  fs::create_directories(folder / "hub/blobs");
  write_shard(folder / "hub/blobs/0123", {"a"});
  write_bytes(folder / "hub/snapshots/abc/model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors"}})");
  fs::create_symlink("../../blobs/0123", folder / "hub/snapshots/abc/s.safetensors");
  EXPECT_EQ(Checkpoint::open(folder / "hub/snapshots/abc").entries().size(), 1u);
  fs::create_symlink("hub/snapshots/abc", folder / "link");
  EXPECT_EQ(Checkpoint::open(folder / "link").entries().size(), 1u);

  fs::remove(folder / "hub/snapshots/abc/model.safetensors.index.json");
  fs::rename(folder / "hub/snapshots/abc/s.safetensors", folder / "hub/snapshots/abc/model.safetensors");
  EXPECT_EQ(Checkpoint::open(folder / "link").entries().size(), 1u);
}

TEST(Checkpoint, RefusesAFifoWithoutBlocking) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "s.safetensors").c_str(), 0600), 0);
  write_index(folder, R"("a":"s.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "not a regular file"));
  ASSERT_EQ(::mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  EXPECT_TRUE(says(complaint(folder), (folder / "model.safetensors") + ": not a regular file"));
}

TEST(Checkpoint, RefusesFoldersInThePlaceOfWeights) {
  const TempFolder folder;
  fs::create_directory(folder / "s.safetensors");
  write_index(folder, R"("a":"s.safetensors")");
  EXPECT_TRUE(says(complaint(folder), (folder / "s.safetensors") + ": not a regular file"));
  fs::create_directory(folder / "model.safetensors");
  EXPECT_TRUE(says(complaint(folder), (folder / "model.safetensors") + ": not a regular file"));
}

TEST(Checkpoint, NamesTheTruncatedShard) {
  const TempFolder folder;
  write_shard(folder / "s1.safetensors", {"a"});
  write_shard(folder / "s2.safetensors", {"b", "c"});
  write_index(folder, R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors")");
  fs::resize_file(folder / "s2.safetensors", fs::file_size(folder / "s2.safetensors") - 1);
  EXPECT_TRUE(says(complaint(folder), (folder / "s2.safetensors") + ": the tensors need 2 bytes, the file has 1"));
  EXPECT_TRUE(says(complaint(folder), "incomplete download?"));
}

TEST(Checkpoint, RefusesShardsThatContradictTheIndex) {
  const TempFolder folder;
  write_shard(folder / "s1.safetensors", {"a", "b"});
  write_shard(folder / "s2.safetensors", {"b", "c"});
  write_index(folder, R"("a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "tensor 'b' is also in "));

  write_shard(folder / "s2.safetensors", {"c"});
  write_index(folder, R"("a":"s1.safetensors","c":"s2.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "s1.safetensors: tensor 'b' is not listed in "));

  write_index(folder, R"("a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors","d":"s2.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "s2.safetensors: tensor 'd' is missing"));

  write_index(folder, R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "s2.safetensors: tensor 'b' is missing"));

  write_index(folder, R"("a":"s1.safetensors","b":"s1.safetensors","c":"s3.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "s3.safetensors: No such file"));

  write_index(folder, R"("a":"s1.safetensors","a":"s2.safetensors")");
  EXPECT_TRUE(says(complaint(folder), "'a' appears twice"));
}

}  // namespace
}  // namespace bezel::io
