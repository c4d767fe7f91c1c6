#include "bezel/io/gguf.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::gguf_text;
using test::GgufBytes;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr std::uint32_t kU8 = 0, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10;
constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;

std::shared_ptr<const GgufFile> opened(const TempFolder& folder, const std::string& bytes) {
  write_bytes(folder / "a.gguf", bytes);
  return GgufFile::open(folder / "a.gguf");
}

/// What opening a file with these bytes complains about; it always names the file.
std::string complaint(const std::string& bytes) {
  const TempFolder folder;
  const std::string message = error_of([&] { opened(folder, bytes); });
  EXPECT_TRUE(message.empty() || says(message, folder / "a.gguf"));
  return message;
}
std::string complaint(const GgufBytes& file) { return complaint(file.bytes()); }

GgufBytes with_tensor() {
  GgufBytes file;
  file.key("general.architecture", "gemma4").tensor("a", {4, 2}, 0, std::string(32, 'a'));
  return file;
}

TEST(Gguf, ReadsKeysAndTensors) {
  const TempFolder folder;
  GgufBytes bytes;
  bytes.key("name", "a text").key("count", 7).key("flag", kBool, raw<std::uint8_t>(1)).key("real", kF32, raw(0.5f));
  bytes.list("words", kString, 3, gguf_text("one") + gguf_text("") + gguf_text("three"));
  bytes.list("reals", kF32, 2, raw(1.0f) + raw(-2.0f)).list("flags", kBool, 2, std::string("\1\0", 2));
  bytes.list("bytes", kU8, 3, "abc").list("none", kF32, 0, "");
  bytes.tensor("matrix", {2, 3}, 0, std::string(24, 'm')).tensor("blocks", {32, 2}, 8, std::string(68, 'b'));
  for (const std::uint32_t version : {2u, 3u}) {
    bytes.version = version;
    const auto file = opened(folder, bytes.bytes());
    EXPECT_EQ(file->at("name").text(), "a text");
    EXPECT_EQ(file->at("count").whole(), 7);
    EXPECT_TRUE(file->at("flag").boolean());
    EXPECT_EQ(file->at("real").number(), 0.5);
    EXPECT_EQ(file->at("words").texts(), (std::vector<std::string_view>{"one", "", "three"}));
    EXPECT_EQ(file->at("reals").floats(), (std::vector<float>{1.0f, -2.0f}));
    EXPECT_EQ(file->at("flags").booleans(), (std::vector<bool>{true, false}));
    EXPECT_EQ(file->at("bytes").wholes(), (std::vector<std::int64_t>{'a', 'b', 'c'}));
    EXPECT_EQ(file->at("none").size(), 0u);
    ASSERT_EQ(file->tensors().size(), 2u);
    const GgufTensor* matrix = file->find("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->shape, (std::vector<std::int64_t>{3, 2}));
    EXPECT_EQ(file->data(*matrix)[23], std::byte{'m'});
    EXPECT_EQ(file->find("blocks")->size_bytes, 68u);
    EXPECT_EQ(file->data(*file->find("blocks"))[0], std::byte{'b'});
  }
}

TEST(Gguf, ValuesAreNeverConverted) {
  const TempFolder folder;
  GgufBytes bytes;
  bytes.key("text", "x")
      .key("real", kF32, raw(2.0f))
      .key("nan", kF32, raw(std::nanf("")))
      .key("huge", kU64, raw(kHuge));
  bytes.key("minus", 5, raw<std::int32_t>(-1)).key("long", std::string(1000, 'y')).key("odd", "a\nb");
  bytes.list("nans", kF32, 1, raw(std::nanf(""))).list("minuses", 5, 1, raw<std::int32_t>(-1));
  const auto file = opened(folder, bytes.bytes());
  const auto wrong = [&](const char* key, auto get) { return error_of([&] { get(file->at(key)); }); };
  const auto whole = [](const GgufValue& value) { value.whole(); };
  for (const char* key : {"text", "real", "huge", "minus", "nans"})
    EXPECT_TRUE(says(wrong(key, whole), std::string("key '") + key + "'")) << key;
  EXPECT_TRUE(says(wrong("huge", whole), "got 9223372036854775808"));
  EXPECT_TRUE(says(wrong("minus", whole), "got -1, expected a whole number of at least 0"));
  EXPECT_TRUE(says(wrong("nan", [](const GgufValue& value) { value.number(); }), "expected a number"));
  EXPECT_TRUE(says(wrong("nans", [](const GgufValue& value) { value.floats(); }), "finite"));
  EXPECT_TRUE(says(wrong("minuses", [](const GgufValue& value) { value.wholes(); }), "element 0"));
  EXPECT_TRUE(says(wrong("real", [](const GgufValue& value) { value.text(); }), "got 2, expected a text"));
  EXPECT_TRUE(says(wrong("text", [](const GgufValue& value) { value.texts(); }), "a list of texts"));
  EXPECT_LT(wrong("long", whole).size(), 200u);
  EXPECT_TRUE(says(wrong("odd", whole), "got 'a?b'"));
  EXPECT_TRUE(says(error_of([&] { file->at("other"); }), "key 'other' is missing"));
}

TEST(Gguf, RefusesWhatIsNoGgufFile) {
  EXPECT_TRUE(says(complaint(std::string()), "does not begin with 'GGUF'"));
  EXPECT_TRUE(says(complaint(std::string("GGU")), "does not begin with 'GGUF'"));
  GgufBytes other = with_tensor();
  other.magic = "ggjt";
  EXPECT_TRUE(says(complaint(other), "does not begin with 'GGUF'"));
}

TEST(Gguf, RefusesOtherVersions) {
  for (const std::uint32_t version : {0u, 1u, 4u, 0xffffffffu}) {
    GgufBytes file = with_tensor();
    file.version = version;
    EXPECT_TRUE(says(complaint(file), "version " + std::to_string(version) + ", expected 2 or 3"));
  }
  GgufBytes file = with_tensor();
  file.version = 0x03000000;
  EXPECT_TRUE(says(complaint(file), "big-endian"));
}

TEST(Gguf, RefusesATruncatedFileAtEveryByte) {
  GgufBytes bytes = with_tensor();
  bytes.list("words", kString, 2, gguf_text("one") + gguf_text("two")).list("numbers", kU64, 1, raw(kHuge));
  const std::string whole = bytes.bytes();
  ASSERT_EQ(complaint(whole), "");
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_NE(complaint(whole.substr(0, length)), "") << length << " bytes";
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  for (const std::uint64_t count : {kHuge, ~std::uint64_t{0}, std::uint64_t{100}}) {
    GgufBytes file = with_tensor();
    file.num_tensors = count;
    EXPECT_TRUE(says(complaint(file), std::to_string(count) + " tensors"));
    file = with_tensor();
    file.num_keys = count;
    EXPECT_TRUE(says(complaint(file), std::to_string(count) + " keys"));
    for (const std::uint32_t type : {kU8, kU64}) {
      file = with_tensor();
      EXPECT_TRUE(says(complaint(file.list("list", type, count, "")), "key 'list' claims " + std::to_string(count)));
    }
    EXPECT_TRUE(says(complaint(with_tensor().list("list", kString, count, "")), "key 'list'"));
  }
}

TEST(Gguf, RefusesLengthsPastTheFile) {
  for (const std::uint64_t length : {kHuge, ~std::uint64_t{0}, std::uint64_t{200}}) {
    GgufBytes file = with_tensor();
    file.keys += raw(length) + "name";
    ++file.num_keys;
    EXPECT_NE(complaint(file), "");
    EXPECT_TRUE(says(complaint(with_tensor().key("text", kString, raw(length) + "x")), "key 'text' needs"));
    EXPECT_TRUE(says(complaint(with_tensor().list("list", kString, 1, raw(length) + "x")), "key 'list' needs"));
    file = with_tensor();
    file.tensors += raw(length) + "b" + std::string(24, '\0');
    ++file.num_tensors;
    EXPECT_TRUE(says(complaint(file), "tensor 1"));
  }
}

TEST(Gguf, RefusesBadNames) {
  EXPECT_TRUE(says(complaint(with_tensor().key("", 1)), "key 1 has an empty name"));
  EXPECT_TRUE(says(complaint(with_tensor().key("a\nb", 1)), "control characters"));
  EXPECT_TRUE(says(complaint(with_tensor().tensor(std::string("a\0b", 3), {4}, 0, std::string(16, 'x'))), "control"));
}

TEST(Gguf, RefusesUnknownKindsAndNestedLists) {
  EXPECT_TRUE(says(complaint(with_tensor().key("odd", 13, raw(kHuge))), "key 'odd' has type 13"));
  EXPECT_TRUE(says(complaint(with_tensor().list("odd", 99, 1, raw(kHuge))), "key 'odd' has type 99"));
  std::string nested;
  for (int depth = 0; depth < 100'000; ++depth) nested += raw(kArray) + raw<std::uint64_t>(1);
  EXPECT_TRUE(says(complaint(with_tensor().key("deep", kArray, nested)), "key 'deep' is a list of lists"));
}

TEST(Gguf, RefusesANameTwice) {
  EXPECT_TRUE(
      says(complaint(with_tensor().key("general.architecture", "gemma3")), "'general.architecture' comes twice"));
  EXPECT_TRUE(says(complaint(with_tensor().tensor("a", {4}, 0, std::string(16, 'x'))), "tensor 'a' comes twice"));
}

TEST(Gguf, RefusesUnknownTypesByName) {
  EXPECT_TRUE(says(complaint(with_tensor().tensor("b", {256}, 16, std::string(66, 'x'))), "'b' is stored as IQ2_XXS"));
  EXPECT_TRUE(says(complaint(with_tensor().tensor("b", {256}, 777, std::string(66, 'x'))), "an unknown type (777)"));
}

TEST(Gguf, RefusesDimensionsThatCannotBe) {
  using Dims = std::vector<std::uint64_t>;
  const auto said = [](const Dims& dims, std::uint32_t type) {
    return complaint(with_tensor().tensor("b", dims, type, std::string(64, 'x')));
  };
  EXPECT_TRUE(says(said({}, 0), "0 dimensions"));
  EXPECT_TRUE(says(said({1, 1, 1, 1, 1}, 0), "5 dimensions"));
  EXPECT_TRUE(says(said({0}, 0), "a dimension of 0"));
  EXPECT_TRUE(says(said({kHuge}, 0), "a dimension of 9223372036854775808"));
  for (const Dims& dims : {Dims{kHuge - 1}, Dims{1u << 31, 1u << 31, 2}, Dims{1u << 16, 1u << 16, 1u << 16, 1u << 16}})
    EXPECT_TRUE(says(said(dims, 0), "does not fit 63 bits"));
  EXPECT_TRUE(says(said({16}, 8), "rows of 16 values, Q8_0 needs a multiple of 32"));
  EXPECT_TRUE(says(said({128}, 14), "Q6_K needs a multiple of 256"));
}

TEST(Gguf, RefusesOffsetsThatDoNotFit) {
  const auto said = [](std::uint64_t offset) {
    GgufBytes file = with_tensor();
    file.info("b", {8}, 0, offset);
    file.data += std::string(32, 'b');
    return complaint(file);
  };
  EXPECT_EQ(said(32), "");
  EXPECT_TRUE(says(said(33), "not at a multiple of 32"));
  EXPECT_TRUE(says(said(0), "inside the tensor before it"));
  EXPECT_TRUE(says(said(64), "needs 32 bytes at byte 64 of the data, the file has 64"));
  EXPECT_TRUE(says(said(kHuge), "incomplete download?"));
  EXPECT_TRUE(says(said(~std::uint64_t{0} - 31), "incomplete download?"));
  GgufBytes hole = with_tensor();
  hole.info("b", {4}, 0, 64);
  hole.data += std::string(64, 'b');
  EXPECT_TRUE(says(complaint(hole), "after a hole; expected 32"));
  EXPECT_TRUE(says(complaint(with_tensor().bytes() + "x"), "1 bytes at the end belong to no tensor"));
}

TEST(Gguf, TakesTheFilesAlignment) {
  GgufBytes wide;
  wide.alignment = 128;
  wide.key("general.alignment", 128)
      .tensor("a", {4}, 0, std::string(16, 'a'))
      .tensor("b", {4}, 0, std::string(16, 'b'));
  EXPECT_EQ(complaint(wide), "");
  GgufBytes narrow = wide;
  narrow.info("c", {4}, 0, 288);
  EXPECT_TRUE(says(complaint(narrow), "not at a multiple of 128"));
  for (const std::uint32_t alignment : {0u, 24u}) {
    GgufBytes odd = with_tensor();
    EXPECT_TRUE(says(complaint(odd.key("general.alignment", alignment)), "general.alignment"));
  }
  EXPECT_TRUE(says(complaint(with_tensor().key("general.alignment", 1u << 31)), "before its data begins"));
}

TEST(Gguf, FlippedBytesNeverCrash) {
  const std::string whole = with_tensor().list("words", kString, 2, gguf_text("one") + gguf_text("two")).bytes();
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const char mask : {'\x01', '\x80', '\xff'}) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ mask);
      complaint(flipped);
    }
}

}  // namespace
}  // namespace bezel::io
