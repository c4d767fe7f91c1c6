#include "bezel/io/gguf_writer.h"

#include <filesystem>
#include <stdexcept>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

// tests/parity/gguf_out.py reads files of models with PyPI gguf.
namespace bezel::io {
namespace {

using test::error_of;
using test::gguf_text;
using test::GgufBytes;
using test::raw;
using test::read_bytes;
using test::says;
using test::write_bytes;

constexpr std::uint32_t kU16 = 2, kI32 = 5, kF32 = 6, kBool = 7, kString = 8;

NewGgufTensor tensor_of(const std::string& name, std::vector<std::int64_t> shape, const std::string& bytes,
                        GgufType type = GgufType::kF32) {
  return {name, type, std::move(shape), [bytes](GgufSink& sink) { sink.put(bytes.data(), bytes.size()); }};
}

class GgufWriterTest : public testing::Test {
 protected:
  test::TempFolder folder;
  std::string path = folder / "a.gguf";
};

TEST_F(GgufWriterTest, WritesTheBytesOfTheFormat) {
  NewGgufKeys keys;
  keys.set("text", "words");
  keys.set("count", std::uint32_t{7});
  keys.set("real", 0.5f);
  keys.set("flag", true);
  keys.set("texts", std::vector<std::string>{"a", "", "bc"});
  keys.set("counts", std::vector<std::int32_t>{-1, 2});
  keys.set("reals", std::vector<float>{1.5f});
  keys.set("flags", std::vector<bool>{false, true});
  const std::string floats(24, 'f'), blocks(68, 'b');
  write_gguf(path, keys, {tensor_of("matrix", {3, 2}, floats), tensor_of("blocks", {2, 32}, blocks, GgufType::kQ8_0)});
  GgufBytes wanted;
  wanted.key("text", "words").key("count", 7).key("real", kF32, raw(0.5f)).key("flag", kBool, raw<std::uint8_t>(1));
  wanted.list("texts", kString, 3, gguf_text("a") + gguf_text("") + gguf_text("bc"));
  wanted.list("counts", kI32, 2, raw<std::int32_t>(-1) + raw<std::int32_t>(2)).list("reals", kF32, 1, raw(1.5f));
  wanted.list("flags", kBool, 2, std::string("\0\1", 2));
  wanted.tensor("matrix", {2, 3}, 0, floats).tensor("blocks", {32, 2}, 8, blocks);
  EXPECT_EQ(read_bytes(path), wanted.bytes());
}

TEST_F(GgufWriterTest, TakesKeysAndTensorsOverByteForByte) {
  GgufBytes bytes;
  bytes.key("text", "words").key("short", kU16, raw<std::uint16_t>(9)).list("none", kString, 0, "");
  bytes.list("texts", kString, 2, gguf_text("one") + gguf_text("")).list("flags", kBool, 2, std::string("\1\0", 2));
  bytes.tensor("matrix", {2, 3}, 0, std::string(24, 'm')).tensor("blocks", {256, 1}, 12, std::string(144, 'k'));
  write_bytes(folder / "from.gguf", bytes.bytes());
  const GgufModel from = GgufModel::open(folder / "from.gguf");
  NewGgufKeys keys;
  for (const char* name : {"text", "short", "none", "texts", "flags"}) keys.copy(from.metadata().at(name));
  write_gguf(path, keys, {copied_tensor(*from.find("matrix")), copied_tensor(*from.find("blocks"))});
  EXPECT_EQ(read_bytes(path), bytes.bytes());
}

TEST_F(GgufWriterTest, ALaterValueTakesThePlaceOfTheFirst) {
  NewGgufKeys keys;
  keys.set("a", "first");
  keys.set("b", std::uint32_t{1});
  keys.set("a", std::uint32_t{2});
  EXPECT_TRUE(keys.has("a"));
  EXPECT_FALSE(keys.has("c"));
  write_gguf(path, keys, {tensor_of("a", {1}, "1234")});
  EXPECT_EQ(read_bytes(path), GgufBytes().key("a", 2).key("b", 1).tensor("a", {1}, 0, "1234").bytes());
}

TEST_F(GgufWriterTest, LeavesNoFileBehindWhenATensorFails) {
  const NewGgufTensor bad{"bad", GgufType::kF32, {2}, [](GgufSink&) { throw Error("no values"); }};
  EXPECT_EQ(error_of([&] { write_gguf(path, {}, {tensor_of("a", {1}, "1234"), bad}); }), "no values");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THROW(write_gguf(path, {}, {tensor_of("a", {2}, "1234")}), std::logic_error);      // too few bytes
  EXPECT_THROW(write_gguf(path, {}, {tensor_of("a", {1}, "12345678")}), std::logic_error);  // too many
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST_F(GgufWriterTest, RefusesANameTwice) {
  EXPECT_TRUE(says(error_of([&] {
                     write_gguf(path, {}, {tensor_of("a", {1}, "1234"), tensor_of("a", {1}, "1234")});
                   }),
                   "tensor 'a' would be there twice"));
}

}  // namespace
}  // namespace bezel::io
