#include "bezel/io/safetensors.h"

#include <chrono>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::read_bytes;
using test::safetensors_bytes;
using test::says;
using test::TempFolder;
using test::write_bytes;

/// What opening a file with these bytes complains about.
std::string complaint(const std::string& bytes) {
  const TempFolder folder;
  write_bytes(folder / "a.safetensors", bytes);
  return error_of([&] { SafetensorsFile::open(folder / "a.safetensors"); });
}

/// The same for a header followed by `data_bytes` zeros.
std::string header_complaint(const std::string& header, std::size_t data_bytes) {
  return complaint(safetensors_bytes(header, std::string(data_bytes, '\0')));
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
}

std::string one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + entry("x", dtype, shape, offsets) + "}";
}

TEST(Safetensors, ReadsAFile) {
  const TempFolder folder;
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + entry("b", "U8", "2,1", "4,6") + "," +
                             entry("a", "F32", "", "0,4") + "," + entry("none", "I64", "0,3", "6,6") + "}";
  write_bytes(folder / "a", safetensors_bytes(header, "abcdef"));
  const auto file = SafetensorsFile::open(folder / "a");
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[0].dtype, DType::kF32);
  EXPECT_TRUE(file->tensors()[0].shape.empty());
  const TensorInfo* b = file->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file->data(*b)), 2), "ef");
  EXPECT_EQ(file->find("c"), nullptr);
  EXPECT_EQ(file->metadata().at("format"), "pt");
}

TEST(Safetensors, ReadsAFileWithoutTensors) { EXPECT_EQ(header_complaint("{}", 0), ""); }

TEST(Safetensors, RefusesAShortFile) {
  EXPECT_TRUE(says(complaint(""), "0 bytes, too short"));
  EXPECT_TRUE(says(complaint(std::string(7, '\0')), "7 bytes, too short"));
}

TEST(Safetensors, RefusesABadHeaderSize) {
  EXPECT_TRUE(says(complaint(std::string(8, '\0')), "a header of 0 bytes"));
  EXPECT_TRUE(says(complaint(std::string(8, '\xFF') + "{}"), "a header of 18446744073709551615 bytes"));
  // 100,000,001
  EXPECT_TRUE(says(complaint(std::string("\x01\xE1\xF5\x05\0\0\0\0{}", 10)), "a header of 100000001 bytes"));
  EXPECT_TRUE(says(complaint(std::string("\x03\0\0\0\0\0\0\0{}", 10)), "needs 3 bytes, the file has 2"));
}

TEST(Safetensors, RefusesAHeaderThatIsNoJsonObject) {
  EXPECT_TRUE(says(header_complaint(" {}", 0), "does not start with '{'"));
  EXPECT_TRUE(says(header_complaint("[]", 0), "does not start with '{'"));
  EXPECT_TRUE(says(header_complaint("{", 0), "not valid JSON"));
  EXPECT_TRUE(says(header_complaint("{}x", 0), "not valid JSON"));
  EXPECT_TRUE(says(header_complaint("{\"x\":1}", 0), "key 'x': got 1"));
  EXPECT_TRUE(says(header_complaint("{\"x\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0), "x.data_offsets' is missing"));
  EXPECT_TRUE(says(header_complaint("{\"__metadata__\":{\"a\":1}}", 0), "expected a string"));
  EXPECT_EQ(header_complaint("{\"__metadata__\":null}", 0), "");  // as MLX writes it
}

TEST(Safetensors, RefusesASizeThatOverflows) {
  for (const char* shape : {"9223372036854775807,2", "4611686018427387904,2", "0,4611686018427387904,4",
                            "4611686018427387904,4,0", "4294967296,4294967296", "4294967296,4294967296,0"})
    EXPECT_TRUE(says(header_complaint(one_tensor("U8", shape, "0,0"), 0), "63 bits")) << shape;
  // The count fits, the bytes do not.
  EXPECT_TRUE(says(header_complaint(one_tensor("F64", "2305843009213693952", "0,0"), 0), "63 bits"));
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", ones, "0,1"), 1), "at most 64 dimensions"));
}

TEST(Safetensors, RefusesAHoleAnOverlapAndARest) {
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", "1,2"), 2), "begins at byte 1, after a hole"));
  EXPECT_TRUE(says(header_complaint("{" + entry("x", "U8", "2", "0,2") + "," + entry("y", "U8", "2", "1,3") + "}", 3),
                   "tensor 'y' begins at byte 1, inside the tensor before it; expected 2"));
  EXPECT_TRUE(says(header_complaint("{" + entry("x", "U8", "2", "0,2") + "," + entry("y", "U8", "2", "0,2") + "}", 2),
                   "inside the tensor before it"));
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", "0,1"), 2), "need 1 bytes, the file has 2: bytes at"));
  EXPECT_TRUE(says(header_complaint("{}", 1), "bytes at the end"));
}

TEST(Safetensors, RefusesATruncatedFile) {
  EXPECT_TRUE(
      says(header_complaint(one_tensor("F32", "2", "0,8"), 7), "need 8 bytes, the file has 7 (incomplete download?)"));
}

TEST(Safetensors, RefusesOffsetsThatDoNotFitTheShape) {
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", "1,0"), 1), "not before the begin"));
  EXPECT_TRUE(says(header_complaint(one_tensor("F32", "2", "0,4"), 4), "expected 8 bytes"));
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", "0"), 1), "two offsets"));
  EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", "0,1,2"), 1), "two offsets"));
}

TEST(Safetensors, RefusesTheSameNameTwice) {
  EXPECT_TRUE(says(header_complaint("{" + entry("x", "U8", "1", "0,1") + "," + entry("x", "U8", "1", "1,2") + "}", 2),
                   "'x' appears twice"));
  EXPECT_TRUE(
      says(header_complaint("{" + entry("x", "U8", "1", "0,1") + "," + entry("\\u0078", "U8", "1", "1,2") + "}", 2),
           "'x' appears twice"));
}

TEST(Safetensors, RefusesWhatIsNoCount) {
  for (const char* count :
       {"-1", "2.0", "1e3", "18446744073709551616", "9223372036854775808", "true", "\"1\"", "null"}) {
    EXPECT_TRUE(says(header_complaint(one_tensor("U8", count, "0,1"), 1), "x.shape[0]")) << count;
    EXPECT_TRUE(says(header_complaint(one_tensor("U8", "1", std::string("0,") + count), 1), "x.data_offsets[1]"))
        << count;
  }
}

TEST(Safetensors, RefusesAnUnknownTypeByName) {
  EXPECT_TRUE(says(header_complaint(one_tensor("F8_E4M3", "1", "0,1"), 1), "x.dtype': got \"F8_E4M3\", expected"));
  EXPECT_TRUE(
      says(header_complaint("{\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"sparse\":true}}", 1),
           "x.sparse"));
}

TEST(Safetensors, RefusesADeepHeader) {
  const std::string deep = "{\"x\":" + std::string(1'000'000, '[');
  EXPECT_TRUE(says(header_complaint(deep, 0), "nested deeper"));
}

TEST(Safetensors, WritesWhatItReads) {
  const TempFolder folder;
  const std::vector<std::uint8_t> bytes = {1, 2, 3};
  const std::vector<double> doubles = {0.5, -2};
  const std::vector<TensorBytes> tensors = {{"odd \"name\"\n", DType::kU8, {3}, bytes.data(), 3},
                                            {"d", DType::kF64, {1, 2}, doubles.data(), 16},
                                            {"none", DType::kF32, {0}, nullptr, 0}};
  write_safetensors(folder / "a", tensors, {{"format", "pt"}, {"k", "v"}});
  const auto file = SafetensorsFile::open(folder / "a");
  ASSERT_EQ(file->tensors().size(), 3u);
  for (const TensorBytes& tensor : tensors) {
    const TensorInfo* info = file->find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->dtype, tensor.dtype);
    EXPECT_EQ(info->shape, tensor.shape);
    ASSERT_EQ(info->end_bytes - info->begin_bytes, tensor.size_bytes);
    if (tensor.size_bytes > 0) {
      EXPECT_EQ(std::memcmp(file->data(*info), tensor.data, tensor.size_bytes), 0);
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file->data(*info)) % dtype_bytes(info->dtype), 0u);
  }
  EXPECT_EQ(file->metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v"}}));
  EXPECT_EQ(read_bytes(folder / "a")[0] % 8, 0);
}

TEST(Safetensors, WritesNoFileThatItWouldRefuse) {
  const TempFolder folder;
  const auto failure = [&](const std::vector<TensorBytes>& tensors) {
    return error_of([&] { write_safetensors(folder / "a", tensors); });
  };
  const char byte = 0;
  const TensorBytes good{"x", DType::kU8, {1}, &byte, 1};
  EXPECT_TRUE(says(failure({good, good}), "'x' is taken"));
  EXPECT_TRUE(says(failure({{"__metadata__", DType::kU8, {1}, &byte, 1}}), "is taken"));
  EXPECT_TRUE(says(failure({{"x", DType::kU8, {2}, &byte, 1}}), "'x' has 1 bytes"));
  EXPECT_TRUE(says(failure({{"\xFF", DType::kU8, {1}, &byte, 1}}), "UTF-8"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, OpensAHundredThousandTensorsFast) {
  const TempFolder folder;
  std::vector<TensorBytes> tensors;
  const char byte = 0;
  for (int i = 0; i < 100'000; ++i)
    tensors.push_back({"model.layers." + std::to_string(i) + ".weight", DType::kU8, {1}, &byte, 1});
  write_safetensors(folder / "a", tensors);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(SafetensorsFile::open(folder / "a")->tensors().size(), 100'000u);
  // Anything quadratic takes minutes; the slack is for sanitizers and busy machines.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(Safetensors, OpensASparseGiantByItsHeader) {
  const TempFolder folder;
  const std::string path = folder / "a";
  write_bytes(path, safetensors_bytes(one_tensor("BF16", "5000000000", "0,10000000000"), ""));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + 10'000'000'000);
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file->data(file->tensors()[0])[9'999'999'999], std::byte{0});
}

}  // namespace
}  // namespace bezel::io
