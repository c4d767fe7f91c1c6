#include "bezel/io/zarr.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "bezel/error.h"
#include "bezel/io/ocdbt_block.h"
#include "bezel/io/zstd_stream.h"

namespace bezel::io {
namespace {

using Dims = std::vector<std::int64_t>;

constexpr std::uint64_t kMaxMetadataBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMissing = ~std::uint64_t{0};
constexpr std::size_t kChecksumBytes = 4, kEntryBytes = 16;

std::size_t product(const Dims& dims) {
  return std::accumulate(dims.begin(), dims.end(), std::size_t{1},
                         [](std::size_t a, std::int64_t b) { return a * static_cast<std::size_t>(b); });
}

/// Chunks along each dimension.
Dims grid_of(const Dims& shape, const Dims& chunk) {
  Dims grid;
  for (std::size_t i = 0; i < shape.size(); ++i)
    grid.push_back(shape[i] / chunk[i] + (shape[i] % chunk[i] != 0 ? 1 : 0));
  return grid;
}

void for_each_index(const Dims& grid, const std::function<void(const Dims&)>& use) {
  if (std::ranges::any_of(grid, [](std::int64_t size) { return size == 0; })) return;
  Dims idx(grid.size(), 0);
  for (;;) {
    use(idx);
    std::size_t dim = grid.size();
    while (dim > 0 && ++idx[dim - 1] == grid[dim - 1]) idx[--dim] = 0;
    if (dim == 0) return;
  }
}

Dims origin_of(const Dims& idx, const Dims& chunk, const Dims& base = {}) {
  Dims origin;
  for (std::size_t i = 0; i < idx.size(); ++i) origin.push_back(idx[i] * chunk[i] + (base.empty() ? 0 : base[i]));
  return origin;
}

/// Sends the bytes of one chunk to their places in the array: in runs that are contiguous in both, without elements
/// beyond the array's edge.
class ChunkPlacer {
 public:
  ChunkPlacer(const Dims& shape, const Dims& chunk, Dims origin, std::size_t element_bytes, const ZarrTarget& target)
      : shape_(shape), chunk_(chunk), origin_(std::move(origin)), element_bytes_(element_bytes), target_(target) {
    run_dim_ = chunk.empty() ? 0 : chunk.size() - 1;
    while (run_dim_ > 0 && chunk[run_dim_] == shape[run_dim_]) --run_dim_;
    for (std::size_t i = run_dim_; i < chunk.size(); ++i) run_elements_ *= static_cast<std::size_t>(chunk[i]);
    for (std::size_t i = run_dim_ + 1; i < chunk.size(); ++i) inner_ *= static_cast<std::size_t>(chunk[i]);
  }

  void put(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::size_t in_run = next_ % run_elements_;
      const std::size_t count = std::min(run_elements_ - in_run, bytes.size() / element_bytes_);
      put_run(next_ / run_elements_, in_run, bytes.first(count * element_bytes_));
      next_ += count;
      bytes = bytes.subspan(count * element_bytes_);
    }
  }

 private:
  void put_run(std::size_t run, std::size_t in_run, std::span<const std::byte> bytes) const {
    std::size_t first = 0, stride = inner_;
    std::size_t visible = 1;
    if (!chunk_.empty()) {
      const std::int64_t left = std::min(chunk_[run_dim_], shape_[run_dim_] - origin_[run_dim_]);
      visible = left <= 0 ? 0 : static_cast<std::size_t>(left) * inner_;
      first = static_cast<std::size_t>(origin_[run_dim_]) * inner_;
      stride = static_cast<std::size_t>(shape_[run_dim_]) * inner_;
    }
    for (std::size_t dim = run_dim_; dim-- > 0;) {
      const auto at = static_cast<std::int64_t>(run % static_cast<std::size_t>(chunk_[dim])) + origin_[dim];
      run /= static_cast<std::size_t>(chunk_[dim]);
      if (at >= shape_[dim]) return;
      first += static_cast<std::size_t>(at) * stride;
      stride *= static_cast<std::size_t>(shape_[dim]);
    }
    if (in_run >= visible) return;
    const std::size_t count = std::min(bytes.size() / element_bytes_, visible - in_run);
    target_(first + in_run, bytes.first(count * element_bytes_));
  }

  const Dims& shape_;
  const Dims& chunk_;
  Dims origin_;
  std::size_t element_bytes_;
  const ZarrTarget& target_;
  std::size_t run_dim_ = 0;
  std::size_t run_elements_ = 1;
  std::size_t inner_ = 1;
  std::size_t next_ = 0;
};

/// Bytes of `value` in order.
class ValueSource {
 public:
  explicit ValueSource(const OcdbtValue& value) : value_(value) {}

  std::size_t operator()(std::span<std::byte> to) {
    const std::size_t count = std::min<std::uint64_t>(to.size(), value_.size_bytes() - next_);
    value_.read(next_, to.first(count));
    next_ += count;
    return count;
  }

 private:
  const OcdbtValue& value_;
  std::uint64_t next_ = 0;
};

/// The value without the checksum behind it, which must fit. Checked values are chunks of shards and small.
OcdbtValue without_checksum(const OcdbtValue& value, const std::string& where) {
  if (value.size_bytes() < kChecksumBytes) throw Error(where, ": too short for its checksum");
  const std::string bytes = value.text(kMaxBlockBytes);
  const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - kChecksumBytes);
  if (crc32c(body) != BlockReader(std::string_view(bytes).substr(body.size()), where).u32())
    throw Error(where, ": the checksum (CRC-32C) does not fit the bytes; fetch the checkpoint again");
  return OcdbtValue(std::string(body));
}

void decode_chunk(const OcdbtValue& stored, const ZarrCodec& codec, std::uint64_t expected_bytes,
                  const std::string& where, ChunkPlacer& placer) {
  const OcdbtValue value = codec.checksum ? without_checksum(stored, where) : stored;
  ValueSource source(value);
  if (codec.zstd) return decode_zstd(std::ref(source), expected_bytes, where, [&](auto piece) { placer.put(piece); });
  if (value.size_bytes() != expected_bytes)
    throw Error(where, ": the chunk has ", value.size_bytes(), " bytes, expected ", expected_bytes);
  std::vector<std::byte> buffer(std::min<std::uint64_t>(expected_bytes, std::uint64_t{1} << 20));
  for (std::size_t count = source(buffer); count > 0; count = source(buffer))
    placer.put(std::span<const std::byte>(buffer).first(count));
}

}  // namespace

ZarrArray ZarrArray::open(const ZarrStore& store, const std::string& name) {
  ZarrArray array;
  array.store_ = &store;
  array.name_ = name;
  for (const char* file : {"/.zarray", "/zarr.json"}) {
    const auto value = store.find(name + file);
    if (!value) continue;
    const std::string where = store.folder() + ": " + name + file;
    const Json json = parse_json(value->text(kMaxMetadataBytes), where);
    const JsonView view(json, where);
    array.metadata_ = file == std::string("/.zarray") ? read_zarr2(view) : read_zarr3(view);
    return array;
  }
  throw Error(store.folder(), ": array '", name, "' is in _METADATA, but neither ", name, "/.zarray nor ", name,
              "/zarr.json is there; fetch the checkpoint again");
}

std::size_t ZarrArray::num_elements() const { return product(shape()); }

std::string ZarrArray::chunk_key(const Dims& idx) const {
  std::string key;
  for (const std::int64_t at : idx) key += (key.empty() ? "" : metadata_.separator) + std::to_string(at);
  if (metadata_.version == 2) return name_ + "/" + (idx.empty() ? "0" : key);
  return name_ + "/c" + (idx.empty() ? "" : metadata_.separator + key);
}

void ZarrArray::read_shard(const OcdbtValue& shard, const Dims& origin, const std::string& where,
                           const ZarrTarget& target) const {
  const Dims grid = grid_of(metadata_.chunk, metadata_.inner);
  const std::size_t count = product(grid), element_bytes = dtype_bytes(dtype());
  const std::uint64_t index_bytes = count * kEntryBytes + kChecksumBytes;
  if (index_bytes > kMaxBlockBytes || index_bytes > shard.size_bytes())
    throw Error(where, ": the shard has ", shard.size_bytes(), " bytes, its index alone takes ", index_bytes);
  const OcdbtValue index = without_checksum(shard.slice(shard.size_bytes() - index_bytes, index_bytes), where);
  const std::string entries = index.text(kMaxBlockBytes);
  BlockReader reader(entries, where);
  for_each_index(grid, [&](const Dims& idx) {
    const std::uint64_t offset = reader.u64(), length = reader.u64();
    if (offset == kMissing && length == kMissing) {
      if (!metadata_.zero_fill) throw Error(where, ": a chunk is missing, and the array's fill_value is not 0");
      return;
    }
    ChunkPlacer placer(shape(), metadata_.inner, origin_of(idx, metadata_.inner, origin), element_bytes, target);
    decode_chunk(shard.slice(offset, length), metadata_.codec, product(metadata_.inner) * element_bytes, where, placer);
  });
}

void ZarrArray::read(const ZarrTarget& target) const {
  const std::size_t element_bytes = dtype_bytes(dtype());
  for_each_index(grid_of(shape(), metadata_.chunk), [&](const Dims& idx) {
    const std::string key = chunk_key(idx);
    const std::string where = store_->folder() + ": " + key;
    const auto value = store_->find(key);
    if (!value) {
      if (!metadata_.zero_fill) throw Error(where, ": the chunk is missing, and the array's fill_value is not 0");
      return;
    }
    const Dims origin = origin_of(idx, metadata_.chunk);
    if (metadata_.sharded) return read_shard(*value, origin, where, target);
    ChunkPlacer placer(shape(), metadata_.chunk, origin, element_bytes, target);
    decode_chunk(*value, metadata_.codec, product(metadata_.chunk) * element_bytes, where, placer);
  });
}

}  // namespace bezel::io
