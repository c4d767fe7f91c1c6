#include "bezel/io/zarr_metadata.h"

namespace bezel::io {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;
constexpr std::size_t kMaxZarrDims = 8;

std::vector<std::int64_t> dims_of(const JsonView& json, std::int64_t min) {
  std::vector<std::int64_t> dims;
  std::int64_t elements = 1;
  for (const JsonView& item : json.elements()) {
    dims.push_back(item.whole(min, kMaxElements));
    if (dims.back() != 0 && elements > kMaxElements / dims.back()) json.fail("at most 2^40 elements");
    elements *= dims.back();
  }
  if (dims.size() > kMaxZarrDims) json.fail("at most 8 dimensions");
  return dims;
}

void expect_text(const JsonView& json, const std::string& wanted) {
  if (!json.is_string() || json.text() != wanted) json.fail("\"" + wanted + "\"");
}

std::string separator_of(const JsonView& json) {
  if (json.text() != "." && json.text() != "/") json.fail("\".\" or \"/\"");
  return json.text();
}

void check_chunk(const JsonView& json, const ZarrMetadata& metadata, const std::vector<std::int64_t>& chunk) {
  if (chunk.size() != metadata.shape.size())
    json.fail("one number for each of the " + std::to_string(metadata.shape.size()) + " dimensions");
}

bool is_zero_fill(const JsonView& json) {
  const auto fill = json.find("fill_value");
  return !fill || (fill->is_number() && fill->number() == 0.0);
}

/// Codecs of bytes: "bytes", and perhaps "zstd" and "crc32c" behind it, in this order.
ZarrCodec byte_codec(const JsonView& list) {
  ZarrCodec codec;
  const std::vector<JsonView> codecs = list.elements();
  if (codecs.empty()) list.fail("a list that begins with the codec \"bytes\" or \"sharding_indexed\"");
  expect_text(codecs[0].at("name"), "bytes");
  if (const auto settings = codecs[0].find("configuration"))
    if (const auto endian = settings->find("endian")) expect_text(*endian, "little");
  std::size_t next = 1;
  const auto is_next = [&](const char* name) {
    const bool found = next < codecs.size() && codecs[next].at("name").text() == name;
    next += found ? 1 : 0;
    return found;
  };
  codec.zstd = is_next("zstd");
  codec.checksum = is_next("crc32c");
  if (next < codecs.size()) codecs[next].at("name").fail("\"bytes\", then perhaps \"zstd\" and \"crc32c\"");
  return codec;
}

void read_shards(const JsonView& settings, ZarrMetadata& metadata) {
  metadata.sharded = true;
  metadata.inner = dims_of(settings.at("chunk_shape"), 1);
  check_chunk(settings.at("chunk_shape"), metadata, metadata.inner);
  for (std::size_t i = 0; i < metadata.inner.size(); ++i)
    if (metadata.chunk[i] % metadata.inner[i] != 0) settings.at("chunk_shape").fail("divisors of the shard's shape");
  metadata.codec = byte_codec(settings.at("codecs"));
  const ZarrCodec index = byte_codec(settings.at("index_codecs"));
  if (index.zstd || !index.checksum) settings.at("index_codecs").fail("\"bytes\" and \"crc32c\"");
  if (const auto place = settings.find("index_location")) expect_text(*place, "end");
}

}  // namespace

ZarrMetadata read_zarr2(const JsonView& json) {
  ZarrMetadata metadata;
  if (json.at("zarr_format").whole() != 2) json.at("zarr_format").fail("2");
  metadata.shape = dims_of(json.at("shape"), 0);
  metadata.chunk = dims_of(json.at("chunks"), 1);
  check_chunk(json.at("chunks"), metadata, metadata.chunk);
  const JsonView dtype = json.at("dtype");
  if (!dtype.is_string() || (dtype.text() != "<f4" && dtype.text() != "bfloat16"))
    dtype.fail("\"<f4\" (float32) or \"bfloat16\"");
  metadata.dtype = dtype.text() == "<f4" ? DType::kF32 : DType::kBF16;
  expect_text(json.at("order"), "C");
  if (const auto filters = json.find("filters"); filters && !filters->elements().empty())
    filters->fail("null: no filters");
  if (const auto separator = json.find("dimension_separator")) metadata.separator = separator_of(*separator);
  if (const auto compressor = json.find("compressor")) {
    expect_text(compressor->at("id"), "zstd");
    metadata.codec.zstd = true;
  }
  metadata.zero_fill = is_zero_fill(json);
  return metadata;
}

ZarrMetadata read_zarr3(const JsonView& json) {
  ZarrMetadata metadata;
  metadata.version = 3;
  metadata.separator = "/";
  if (json.at("zarr_format").whole() != 3) json.at("zarr_format").fail("3");
  expect_text(json.at("node_type"), "array");
  metadata.shape = dims_of(json.at("shape"), 0);
  const JsonView dtype = json.at("data_type");
  if (!dtype.is_string() || (dtype.text() != "float32" && dtype.text() != "bfloat16"))
    dtype.fail("\"float32\" or \"bfloat16\"");
  metadata.dtype = dtype.text() == "float32" ? DType::kF32 : DType::kBF16;
  const JsonView grid = json.at("chunk_grid");
  expect_text(grid.at("name"), "regular");
  const JsonView chunk = grid.at("configuration").at("chunk_shape");
  metadata.chunk = dims_of(chunk, 1);
  check_chunk(chunk, metadata, metadata.chunk);
  if (const auto encoding = json.find("chunk_key_encoding")) {
    expect_text(encoding->at("name"), "default");
    if (const auto settings = encoding->find("configuration"))
      if (const auto separator = settings->find("separator")) metadata.separator = separator_of(*separator);
  }
  const JsonView list = json.at("codecs");
  const std::vector<JsonView> codecs = list.elements();
  if (codecs.size() == 1 && codecs[0].at("name").text() == "sharding_indexed")
    read_shards(codecs[0].at("configuration"), metadata);
  else
    metadata.codec = byte_codec(list);
  metadata.zero_fill = is_zero_fill(json);
  return metadata;
}

}  // namespace bezel::io
