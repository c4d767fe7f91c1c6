#include "bezel/io/zarr.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <zstd.h>

#include "bezel/io/ocdbt_block.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr const char* kRaw = R"("compressor":null)";
constexpr const char* kZstd = R"("compressor":{"id":"zstd","level":1})";
constexpr const char* kBytesCodec = R"({"name":"bytes","configuration":{"endian":"little"}})";

std::string zstd(const std::string& text) {
  std::string frame(ZSTD_compressBound(text.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), text.data(), text.size(), 1));
  return frame;
}

std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += raw(value);
  return bytes;
}

/// A folder of plain files with one array, "a.b/c".
class Folder {
 public:
  explicit Folder(const std::string& metadata_file, const std::string& metadata) {
    write_bytes(folder_ / "_METADATA",
                R"json({"use_ocdbt":false,"tree_metadata":{"('a', 'b/c')":)json"
                R"json({"key_metadata":[{"key":"a","key_type":2},{"key":"b/c","key_type":2}]}}})json");
    file(metadata_file, metadata);
  }
  void file(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path path = folder_.path() / "a.b" / "c" / name;
    std::filesystem::create_directories(path.parent_path());
    write_bytes(path, bytes);
  }
  std::vector<float> values() const {
    const ZarrStore store = ZarrStore::open(folder_.path());
    const ZarrArray array = ZarrArray::open(store, store.names().at(0).text());
    std::vector<float> out(array.num_elements(), 0.0f);
    array.read([&](std::size_t first, std::span<const std::byte> bytes) {
      if (first * sizeof(float) + bytes.size() > out.size() * sizeof(float))
        throw std::out_of_range("beyond the array");
      std::memcpy(out.data() + first, bytes.data(), bytes.size());
    });
    return out;
  }
  std::string complaint() const {
    return error_of([&] { values(); });
  }

 private:
  TempFolder folder_;
};

std::string zarray(const std::string& shape, const std::string& chunks, const std::string& rest = kRaw,
                   const std::string& dtype = "<f4") {
  return R"({"zarr_format":2,"order":"C","filters":null,"fill_value":null,"dimension_separator":".","dtype":")" +
         dtype + R"(","shape":)" + shape + R"(,"chunks":)" + chunks + "," + rest + "}";
}

std::string zarr3(const std::string& shape, const std::string& chunk, const std::string& codecs) {
  return R"({"zarr_format":3,"node_type":"array","data_type":"float32","fill_value":0.0,"shape":)" + shape +
         R"(,"chunk_grid":{"name":"regular","configuration":{"chunk_shape":)" + chunk +
         R"(}},"chunk_key_encoding":{"name":"default","configuration":{"separator":"/"}},"codecs":[)" + codecs + "]}";
}

std::string sharding(const std::string& inner) {
  return R"({"name":"sharding_indexed","configuration":{"chunk_shape":)" + inner + R"(,"codecs":[)" + kBytesCodec +
         R"(,{"name":"zstd","configuration":{"level":3}}],"index_codecs":[)" + kBytesCodec +
         R"(,{"name":"crc32c"}],"index_location":"end"}})";
}

std::string with_checksum(const std::string& bytes) { return bytes + raw(crc32c(bytes)); }

TEST(Zarr, OneChunkOfAllDimensions) {
  for (const bool compressed : {false, true}) {
    const Folder folder(".zarray", zarray("[2,3]", "[2,3]", compressed ? kZstd : kRaw));
    const std::string bytes = floats({1, 2, 3, 4, 5, 6});
    folder.file("0.0", compressed ? zstd(bytes) : bytes);
    EXPECT_EQ(folder.values(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  }
}

TEST(Zarr, ANumberWithoutDimensions) {
  const Folder folder(".zarray", zarray("[]", "[]"));
  folder.file("0", floats({7}));
  EXPECT_EQ(folder.values(), std::vector<float>{7});
}

TEST(Zarr, ChunksAtTheEdgeAreCropped) {
  // 3 x 5 in chunks of 2 x 2: element (i, j) is 10 i + j; what lies beyond the edge is -1.
  const Folder folder(".zarray", zarray("[3,5]", "[2,2]"));
  std::vector<float> wanted;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 5; ++j) wanted.push_back(static_cast<float>(10 * i + j));
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 3; ++column) {
      std::vector<float> chunk;
      for (int i = 2 * row; i < 2 * row + 2; ++i)
        for (int j = 2 * column; j < 2 * column + 2; ++j)
          chunk.push_back(i < 3 && j < 5 ? static_cast<float>(10 * i + j) : -1.0f);
      folder.file(std::to_string(row) + "." + std::to_string(column), floats(chunk));
    }
  }
  EXPECT_EQ(folder.values(), wanted);
}

TEST(Zarr, EveryChunkShapeOfAThreeDimensionalArray) {
  for (int a = 1; a <= 4; ++a) {
    for (int b = 1; b <= 3; ++b) {
      for (int c = 1; c <= 6; ++c) {
        const std::string chunks = "[" + std::to_string(a) + "," + std::to_string(b) + "," + std::to_string(c) + "]";
        const Folder folder(".zarray", zarray("[3,2,5]", chunks));
        for (int at = 0; at < 3 * 2 * 5; ++at) {  // every chunk that holds an element, written whole
          const int i = at / 10 / a, j = at / 5 % 2 / b, k = at % 5 / c;
          std::vector<float> chunk;
          for (int x = i * a; x < i * a + a; ++x)
            for (int y = j * b; y < j * b + b; ++y)
              for (int z = k * c; z < k * c + c; ++z)
                chunk.push_back(x < 3 && y < 2 && z < 5 ? static_cast<float>(10 * x + 5 * y + z) : -1.0f);
          folder.file(std::to_string(i) + "." + std::to_string(j) + "." + std::to_string(k), floats(chunk));
        }
        const std::vector<float> values = folder.values();
        for (int at = 0; at < 30; ++at) EXPECT_EQ(values[at], static_cast<float>(at)) << chunks;
      }
    }
  }
}

TEST(Zarr, MissingChunksAreZero) {
  const Folder folder(".zarray", zarray("[4]", "[2]"));
  folder.file("1", floats({3, 4}));
  EXPECT_EQ(folder.values(), (std::vector<float>{0, 0, 3, 4}));
  std::string metadata = zarray("[4]", "[2]");
  metadata.replace(metadata.find("\"fill_value\":null"), 17, "\"fill_value\":1.5");
  const Folder filled(".zarray", metadata);
  EXPECT_TRUE(says(filled.complaint(), "a.b/c/0: the chunk is missing, and the array's fill_value is not 0"));
}

TEST(Zarr, ThirdVersionAndItsShards) {
  const Folder plain("zarr.json", zarr3("[2,2]", "[1,2]", kBytesCodec));
  plain.file("c/0/0", floats({1, 2}));
  plain.file("c/1/0", floats({3, 4}));
  EXPECT_EQ(plain.values(), (std::vector<float>{1, 2, 3, 4}));

  const Folder sharded("zarr.json", zarr3("[2,2]", "[2,2]", sharding("[2,1]")));
  const std::string first = zstd(floats({1, 3}));
  const std::string index = raw<std::uint64_t>(0) + raw<std::uint64_t>(first.size()) + std::string(16, '\xff');
  sharded.file("c/0/0", first + with_checksum(index));
  EXPECT_EQ(sharded.values(), (std::vector<float>{1, 0, 3, 0}));  // the second chunk is missing
  sharded.file("c/0/0", first + with_checksum(index).substr(0, index.size()) + "crc!");
  EXPECT_TRUE(says(sharded.complaint(), "a.b/c/c/0/0: the checksum (CRC-32C) does not fit the bytes"));
  const std::string beyond = raw<std::uint64_t>(1000) + raw<std::uint64_t>(5) + std::string(16, '\xff');
  sharded.file("c/0/0", first + with_checksum(beyond));
  EXPECT_TRUE(says(sharded.complaint(), "bytes 1000 to 1000 + 5 of a value of"));
  sharded.file("c/0/0", "short");
  EXPECT_TRUE(says(sharded.complaint(), "its index alone takes 36"));
}

TEST(Zarr, ANumberInAShard) {
  const Folder folder("zarr.json", zarr3("[]", "[]", sharding("[]")));
  const std::string frame = zstd(floats({7}));
  folder.file("c", frame + with_checksum(raw<std::uint64_t>(0) + raw<std::uint64_t>(frame.size())));
  EXPECT_EQ(folder.values(), std::vector<float>{7});
}

TEST(Zarr, DamagedChunksAreNamed) {
  const Folder folder(".zarray", zarray("[2]", "[2]", kZstd));
  const std::string frame = zstd(floats({1, 2}));
  folder.file("0", frame.substr(0, frame.size() - 2));
  EXPECT_TRUE(says(folder.complaint(), "a.b/c/0: zstd data end early"));
  folder.file("0", zstd(floats({1, 2, 3})));
  EXPECT_TRUE(says(folder.complaint(), "a.b/c/0: zstd data hold more than the expected 8 bytes"));
  const Folder flat(".zarray", zarray("[2]", "[2]"));
  flat.file("0", "seven b");
  EXPECT_TRUE(says(flat.complaint(), "the chunk has 7 bytes, expected 8"));
}

TEST(Zarr, OtherFormsAreRefusedByKey) {
  const auto complaint = [](const std::string& metadata) { return Folder(".zarray", metadata).complaint(); };
  EXPECT_TRUE(says(complaint(zarray("[2]", "[2]", kRaw, "<i8")), "key 'dtype': got \"<i8\""));
  EXPECT_TRUE(says(complaint(zarray("[2]", "[2,1]")), "key 'chunks'"));
  EXPECT_TRUE(says(complaint(zarray("[2]", "[0]")), "key 'chunks"));
  EXPECT_TRUE(says(complaint(zarray("[-1]", "[1]")), "key 'shape"));
  EXPECT_TRUE(says(complaint(zarray("[1099511627776,2]", "[1,1]")), "at most 2^40 elements"));
  EXPECT_TRUE(says(complaint(zarray("[2]", "[2]", R"("compressor":{"id":"blosc"})")), "key 'compressor.id'"));
  const auto third = [](const std::string& codecs) {
    return Folder("zarr.json", zarr3("[2]", "[2]", codecs)).complaint();
  };
  EXPECT_TRUE(says(third(R"({"name":"transpose"})"), "key 'codecs[0].name'"));
  EXPECT_TRUE(says(third(std::string(kBytesCodec) + R"(,{"name":"gzip"})"), "key 'codecs[1].name'"));
  EXPECT_TRUE(says(third(sharding("[3]")), "divisors of the shard's shape"));
}

TEST(ZarrStore, NamesComeFromItsMetadata) {
  const TempFolder folder;
  EXPECT_TRUE(says(error_of([&] { ZarrStore::open(folder.path()); }), "expected a checkpoint of Orbax"));
  std::filesystem::create_directories(folder.path() / "params");
  const auto metadata = [&](const std::string& text) { write_bytes(folder / "params/_METADATA", text); };
  const auto complaint = [&] { return error_of([&] { ZarrStore::open(folder.path()); }); };
  metadata(R"({"tree_metadata":{"x":{"key_metadata":[{"key":"layer_0"},{"key":"w"}]}},"use_ocdbt":false})");
  const ZarrStore store = ZarrStore::open(folder.path());
  ASSERT_EQ(store.names().size(), 1u);
  EXPECT_EQ(store.names()[0].text(), "layer_0.w");
  EXPECT_TRUE(says(error_of([&] { ZarrArray::open(store, "layer_0.w"); }), "array 'layer_0.w' is in _METADATA, but"));
  metadata(R"({"tree_metadata":{"x":{"key_metadata":[{"key":"../../secret"}]}},"use_ocdbt":false})");
  EXPECT_TRUE(says(complaint(), "without '..'"));
  metadata(R"({"tree_metadata":{"x":{"key_metadata":[{"key":"a"}]},"y":{"key_metadata":[{"key":"a"}]}}})");
  EXPECT_TRUE(says(complaint(), "'a' comes twice"));
  metadata(R"({"tree_metadata":{},"use_ocdbt":true})");
  EXPECT_TRUE(says(complaint(), "manifest.ocdbt is missing"));
  metadata("not json");
  EXPECT_TRUE(says(complaint(), "_METADATA"));
}

}  // namespace
}  // namespace bezel::io
