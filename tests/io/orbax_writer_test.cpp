#include "bezel/io/orbax_writer.h"

#include <cstring>
#include <filesystem>
#include <numeric>

#include <gtest/gtest.h>

#include "bezel/io/ocdbt.h"
#include "bezel/io/zarr.h"
#include "bezel/io/zstd_encoder.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::TempFolder;

std::string numbers(std::size_t count) {
  std::string bytes(count * sizeof(std::uint32_t), '\0');
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<std::uint32_t>(i * 2654435761u);  // zstd finds nothing in it
    std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
  }
  return bytes;
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(OcdbtWriter, ValuesOfEverySizeComeBack) {
  const TempFolder folder;
  OcdbtWriter writer(folder.path().string());
  const std::string small(1024, 's'), middle(1025, 'm'), large = numbers(3 << 19);  // 6 MiB, a file of its own
  writer.put("b/small", small);
  writer.put("a", "");
  writer.put("b/large", large.size(), [&](const OcdbtWriter::Append& append) {
    append(bytes_of(large).first(1000));
    append(bytes_of(large).subspan(1000));
  });
  writer.put("b/middle", middle);
  EXPECT_THROW(writer.put("a", "again"), std::logic_error);
  writer.finish();
  const Ocdbt store = Ocdbt::open(folder.path().string());
  ASSERT_EQ(store.values().size(), 4u);
  EXPECT_EQ(store.find("a")->text(0), "");
  EXPECT_EQ(store.find("b/small")->text(1024), small);
  EXPECT_EQ(store.find("b/middle")->text(1025), middle);
  EXPECT_EQ(store.find("b/large")->text(large.size()), large);
}

TEST(OcdbtWriter, AStoreWithoutValuesIsEmpty) {
  const TempFolder folder;
  OcdbtWriter(folder.path().string()).finish();
  EXPECT_TRUE(Ocdbt::open(folder.path().string()).values().empty());
}

TEST(ZstdEncoder, RefusesOtherThanItWasTold) {
  const std::string text(100, 'x');
  ZstdEncoder more(99, [](auto) {});
  EXPECT_THROW(
      {
        more.put(bytes_of(text));
        more.finish();
      },
      std::logic_error);
  ZstdEncoder fewer(101, [](auto) {});
  fewer.put(bytes_of(text));
  EXPECT_THROW(fewer.finish(), std::logic_error);
}

TEST(OrbaxWriter, ArraysComeBackWithTheirNames) {
  const TempFolder folder;
  const ZarrName matrix{{"a", "b/c", "w"}}, number{{"scale"}};
  const std::vector<std::int64_t> shape = {3, 1024, 512};
  const std::string values = numbers(3 * 1024 * 512);
  OrbaxWriter writer(folder.path().string());
  writer.put(matrix, DType::kF32, shape, [&](const OrbaxWriter::Put& put) { put(bytes_of(values)); });
  writer.put(number, DType::kBF16, {}, [](const OrbaxWriter::Put& put) { put(bytes_of("\x80\x3f")); });
  writer.finish();
  const ZarrStore store = ZarrStore::open(folder.path().string());
  ASSERT_EQ(store.names().size(), 2u);
  EXPECT_EQ(store.names()[0].path, matrix.path);
  EXPECT_EQ(store.names()[1].path, number.path);
  const ZarrArray array = ZarrArray::open(store, matrix.text());
  EXPECT_EQ(array.dtype(), DType::kF32);
  EXPECT_EQ(array.shape(), shape);
  std::string read(values.size(), '\0');
  array.read([&](std::size_t first, std::span<const std::byte> bytes) {
    std::memcpy(read.data() + first * sizeof(float), bytes.data(), bytes.size());
  });
  EXPECT_TRUE(read == values);
  const ZarrArray scale = ZarrArray::open(store, "scale");
  EXPECT_EQ(scale.dtype(), DType::kBF16);
  EXPECT_TRUE(scale.shape().empty());
  std::string bits;
  scale.read([&](std::size_t, std::span<const std::byte> bytes) {
    bits.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  EXPECT_EQ(bits, "\x80\x3f");
}

}  // namespace
}  // namespace bezel::io
