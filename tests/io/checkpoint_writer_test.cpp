#include "bezel/io/checkpoint_writer.h"

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_bytes;
using test::says;
using test::TempFolder;
using test::write_bytes;

/// A tensor of `count` bytes, all of them `value`.
CheckpointPart bytes_part(const std::string& name, std::int64_t count, char value) {
  return {{{name, DType::kU8, {count}}}, [=](TensorSink& sink) {
            const std::string data(static_cast<std::size_t>(count), value);
            sink.put(name, data.data(), data.size());
          }};
}

NewCheckpoint small(const TempFolder& folder) {
  fs::create_directories(folder / "source/sub");
  write_bytes(folder / "source/tokenizer.json", "tokens");
  write_bytes(folder / "source/config.json", "old");
  write_bytes(folder / "source/model.safetensors", "weights");
  write_bytes(folder / "source/model.safetensors.index.json", "index");
  write_bytes(folder / "source/pytorch_model.bin", "pickle");
  return {.source = folder / "source",
          .config = {{"new", true}},
          .parts = {bytes_part("a", 60, 'a'), bytes_part("b", 60, 'b'), bytes_part("c", 30, 'c')}};
}

std::string tensor_text(const Checkpoint& checkpoint, const std::string& name) {
  const Checkpoint::Entry& entry = *checkpoint.find(name);
  return {reinterpret_cast<const char*>(entry.file->data(*entry.info)),
          entry.info->end_bytes - entry.info->begin_bytes};
}

TEST(CheckpointWriter, WhatACheckpointWasMadeOfStaysBehind) {
  const TempFolder folder;
  NewCheckpoint made = small(folder);
  write_bytes((fs::path(folder / "source") / kOriginFile).string(), "{}");
  write_checkpoint(made, folder / "without");
  EXPECT_FALSE(fs::exists(fs::path(folder / "without") / kOriginFile));
  made.origin = {{"model", "there"}};
  write_checkpoint(made, folder / "with");
  EXPECT_EQ(read_json_file((fs::path(folder / "with") / kOriginFile).string()), Json({{"model", "there"}}));
}

TEST(CheckpointWriter, WritesOneFileAndCopiesTheSmallOnes) {
  const TempFolder folder;
  const WrittenCheckpoint written = write_checkpoint(small(folder), folder / "out/");
  EXPECT_EQ(written.files, 1);
  EXPECT_EQ(written.bytes, 150);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder / "out")) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(read_bytes(folder / "out/tokenizer.json"), "tokens");
  EXPECT_EQ(read_json_file(folder / "out/config.json"), Json({{"new", true}}));
  EXPECT_EQ(tensor_text(Checkpoint::open(folder / "out"), "b"), std::string(60, 'b'));
}

TEST(CheckpointWriter, ARelativePathLiesInTheWorkingFolder) {
  const TempFolder folder;
  const NewCheckpoint checkpoint = small(folder);
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_checkpoint(checkpoint, "out");
  write_checkpoint(checkpoint, "new/parents/out");
  fs::current_path(before);
  EXPECT_TRUE(fs::exists(folder / "out/model.safetensors"));
  EXPECT_TRUE(fs::exists(folder / "new/parents/out/model.safetensors"));
}

TEST(CheckpointWriter, ShardsStayBelowTheLimitAndAreIndexed) {
  const TempFolder folder;
  NewCheckpoint checkpoint = small(folder);
  checkpoint.parts.push_back(bytes_part("large", 500, 'x'));  // a shard of its own
  checkpoint.max_shard_bytes = 100;
  EXPECT_EQ(write_checkpoint(checkpoint, folder / "out").files, 3);
  const Checkpoint read = Checkpoint::open(folder / "out");
  ASSERT_EQ(read.entries().size(), 4u);
  EXPECT_EQ(tensor_text(read, "c"), std::string(30, 'c'));
  EXPECT_EQ(fs::path(read.find("a")->file->path()).filename(), "model-00001-of-00003.safetensors");
  EXPECT_EQ(read.find("b")->file, read.find("c")->file);
  EXPECT_EQ(fs::path(read.find("large")->file->path()).filename(), "model-00003-of-00003.safetensors");
  EXPECT_EQ(read_json_file(folder / "out/model.safetensors.index.json")["metadata"]["total_size"], 650);
}

TEST(CheckpointWriter, PiecesOfATensorComeInAnyOrderAndTheRestIsZero) {
  const TempFolder folder;
  NewCheckpoint checkpoint = small(folder);
  checkpoint.parts = {{{{"a", DType::kU8, {6}}, {"b", DType::kU8, {3}}}, [](TensorSink& sink) {
                         const auto put = sink.put_pieces("a");
                         put(3, "yz", 2);
                         put(0, "x", 1);
                         sink.put_pieces("b");
                         EXPECT_THROW(put(5, "12", 2), std::logic_error);
                         EXPECT_THROW(sink.put_pieces("a"), std::logic_error);
                       }}};
  write_checkpoint(checkpoint, folder / "out");
  const Checkpoint read = Checkpoint::open(folder / "out");
  EXPECT_EQ(tensor_text(read, "a"), std::string("x\0\0yz\0", 6));
  EXPECT_EQ(tensor_text(read, "b"), std::string(3, '\0'));
}

TEST(CheckpointWriter, NothingIsOverwrittenAndNothingHalfDoneStays) {
  const TempFolder folder;
  NewCheckpoint checkpoint = small(folder);
  fs::create_directories(folder / "taken");
  EXPECT_TRUE(says(error_of([&] { write_checkpoint(checkpoint, folder / "taken"); }), "takes a new folder"));
  checkpoint.parts[1].write = [](TensorSink&) { throw Error("broken"); };
  EXPECT_EQ(error_of([&] { write_checkpoint(checkpoint, folder / "out"); }), "broken");
  // A part that forgets a tensor, or puts one that is not due, is a mistake of ours.
  checkpoint.parts[1].write = [](TensorSink&) {};
  EXPECT_THROW(write_checkpoint(checkpoint, folder / "out"), std::logic_error);
  checkpoint.parts[1].write = [](TensorSink& sink) { sink.put("b", "short", 5); };
  EXPECT_THROW(write_checkpoint(checkpoint, folder / "out"), std::logic_error);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path())) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"source", "taken"}));
}

}  // namespace
}  // namespace bezel::io
