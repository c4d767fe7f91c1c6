#include "bezel/io/tensor_io.h"

#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::safetensors_bytes;
using test::TempFolder;
using test::write_bytes;

TEST(TensorIo, EveryTypeSurvivesARoundTrip) {
  const TempFolder folder;
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  const torch::Tensor values = torch::tensor({0.0, 1.0, 0.0, 3.0, 7.0, 1.0}).view({2, 3});  // [2, 3]
  for (const auto type :
       {torch::kBool, torch::kUInt8, torch::kInt8, torch::kUInt16, torch::kInt16, torch::kFloat16, torch::kBFloat16,
        torch::kUInt32, torch::kInt32, torch::kFloat32, torch::kUInt64, torch::kInt64, torch::kFloat64})
    tensors.emplace_back(c10::toString(type), values.to(type));
  tensors.emplace_back("scalar", torch::tensor(2.5f));
  tensors.emplace_back("empty", torch::empty({0, 4}));
  tensors.emplace_back("transposed", values.t());
  save_safetensors(folder / "a", tensors);

  const auto loaded = load_safetensors(folder / "a");
  ASSERT_EQ(loaded.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor& back = loaded.at(name);
    EXPECT_EQ(back.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(back.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(torch::equal(back.to(torch::kFloat64), tensor.to(torch::kFloat64))) << name;
  }
  EXPECT_EQ(SafetensorsFile::open(folder / "a")->metadata().at("format"), "pt");
}

// Bytes of files in this process's memory.
std::int64_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("RssFile:", 0) == 0) return std::stoll(line.substr(8)) * 1024;
  return -1;
}

TEST(TensorIo, EvictedPagesLeaveMemoryAndComeBackWhenRead) {
  constexpr std::int64_t kBytes = 32 << 20;
  const TempFolder folder;
  save_safetensors(folder / "a", {{"x", torch::ones({kBytes / 8}, torch::kInt64)}});
  const torch::Tensor x = load_safetensors(folder / "a").at("x"), heap = torch::ones({4}, torch::kInt64);
  EXPECT_EQ(x.sum().item<std::int64_t>(), kBytes / 8);
  const std::int64_t before = resident_file_bytes();
  evict(x);
  evict(heap);  // not mapped: stays as it is
  EXPECT_LT(resident_file_bytes(), before - kBytes / 4 * 3);
  EXPECT_EQ(x.sum().item<std::int64_t>(), kBytes / 8);
  EXPECT_EQ(heap.sum().item<std::int64_t>(), 4);
}

TEST(TensorIo, PagesOfRowsBeforeTheFirstEvictedOneStay) {
  constexpr std::int64_t kRows = 8, kRowBytes = 4 << 20;
  const TempFolder folder;
  save_safetensors(folder / "a", {{"x", torch::ones({kRows, kRowBytes / 8}, torch::kInt64)}});
  const torch::Tensor x = load_safetensors(folder / "a").at("x");
  EXPECT_EQ(x.sum().item<std::int64_t>(), x.numel());
  const std::int64_t before = resident_file_bytes();
  evict(x, kRows);
  EXPECT_GT(resident_file_bytes(), before - kRowBytes);
  evict(x, kRows - 3);
  EXPECT_NEAR(static_cast<double>(resident_file_bytes()), static_cast<double>(before - 3 * kRowBytes), kRowBytes / 2);
}

TEST(TensorIo, RowsAreTakenFromTheFileWithoutTheirNeighbors) {
  constexpr std::int64_t kRows = 4096, kColumns = 1024;
  const TempFolder folder;
  const torch::Tensor heap = torch::arange(kRows * kColumns).view({kRows, kColumns});
  save_safetensors(folder / "a", {{"x", heap}});
  const torch::Tensor x = load_safetensors(folder / "a").at("x"), index = torch::arange(kRows - 1, 0, -37);
  const std::int64_t before = resident_file_bytes();
  const torch::Tensor taken = read_rows(x, index);
  EXPECT_LT(resident_file_bytes(), before + (4 << 20));
  EXPECT_TRUE(torch::equal(taken, heap.index_select(0, index)));
  EXPECT_TRUE(torch::equal(read_rows(heap, index), taken));
  EXPECT_EQ(read_rows(x, index.narrow(0, 0, 0)).sizes(), (std::vector<std::int64_t>{0, kColumns}));
  EXPECT_THROW(read_rows(x, torch::tensor({kRows})), c10::IndexError);
  EXPECT_THROW(read_rows(x, torch::tensor({-1})), c10::IndexError);
}

TEST(TensorIo, SaysWhichFileIsTooShortForARow) {
  const TempFolder folder;
  save_safetensors(folder / "a", {{"x", torch::ones({4, 1024})}});
  const torch::Tensor x = load_safetensors(folder / "a").at("x");
  std::filesystem::resize_file(folder / "a", 4096);
  EXPECT_EQ(test::error_of([&] { read_rows(x, torch::tensor({3})); }),
            (folder / "a") + ": was truncated while it was in use; put the file back and start again");
}

TEST(TensorIo, MapsWithoutCopyingAndKeepsTheMapAlive) {
  const TempFolder folder;
  save_safetensors(folder / "a", {{"x", torch::arange(6)}});
  auto file = SafetensorsFile::open(folder / "a");
  const torch::Tensor x = map_tensor(file, *file->find("x"));
  EXPECT_EQ(x.data_ptr(), file->data(*file->find("x")));
  const std::weak_ptr<const MappedFile> watch = file->map();
  file.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_TRUE(torch::equal(x, torch::arange(6)));
}

TEST(TensorIo, LargePagesHoldACopyThatOutlivesTheMap) {
  const TempFolder folder;
  save_safetensors(folder / "a", {{"x", torch::arange(700000).view({700, 1000})}});
  auto file = SafetensorsFile::open(folder / "a");
  torch::Tensor mapped = map_tensor(file, *file->find("x"));
  torch::Tensor copy = in_large_pages(mapped);
  EXPECT_TRUE(is_mapped(mapped));
  EXPECT_FALSE(is_mapped(copy));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(copy.data_ptr()) % (std::size_t{2} << 20), 0u);
  mapped = torch::Tensor();
  file.reset();
  copy[0][0] = 5;  // writable, which the map is not
  EXPECT_EQ(copy.sum().item<std::int64_t>(), std::int64_t{700000} * 699999 / 2 + 5);
}

TEST(TensorIo, CopiesUnalignedTensors) {
  const TempFolder folder;
  const float value = 1.5f;
  std::string data = "?";
  data.append(reinterpret_cast<const char*>(&value), sizeof value);
  std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  write_bytes(folder / "a", safetensors_bytes(header, data));
  const auto file = SafetensorsFile::open(folder / "a");
  const torch::Tensor x = map_tensor(file, *file->find("x"));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.data_ptr()) % alignof(float), 0u);
  EXPECT_EQ(x.item<float>(), value);
}

TEST(TensorIo, AnyBoolByteButZeroIsTrue) {
  const TempFolder folder;
  write_bytes(folder / "a", safetensors_bytes(R"({"x":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})",
                                              std::string("\x00\x02\xFF", 3)));
  EXPECT_TRUE(torch::equal(load_safetensors(folder / "a").at("x"), torch::tensor({false, true, true})));
}

TEST(TensorIo, RefusesATypeThatTheFormatLacks) {
  const TempFolder folder;
  EXPECT_NE(error_of([&] { save_safetensors(folder / "a", {{"x", torch::zeros({1}, torch::kComplexFloat)}}); }), "");
}

}  // namespace
}  // namespace bezel::io
