#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/io/safetensors.h"

namespace bezel::io {

/// How the bytes of a chunk are stored.
struct ZarrCodec {
  bool zstd = false;
  bool checksum = false;  ///< a CRC-32C follows the bytes
};

/// What .zarray (zarr 2) or zarr.json (zarr 3) says of an array.
struct ZarrMetadata {
  int version = 2;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> chunk;  ///< shape of a chunk, or of a shard
  bool sharded = false;             ///< each chunk is a shard, which holds chunks itself
  std::vector<std::int64_t> inner;  ///< shape of the chunks in a shard
  std::string separator = ".";      ///< between the numbers in a chunk's key
  bool zero_fill = true;            ///< missing elements are 0
  ZarrCodec codec;                  ///< of a chunk, or of a chunk in a shard
};

/// Reads .zarray. Throws Error naming the key for what Orbax does not write: elements other than float32 and bfloat16,
/// filters, Fortran order, compressors other than zstd; also for chunks or arrays of more than 2^40 elements.
ZarrMetadata read_zarr2(const JsonView& json);

/// The same for zarr.json; of codecs it takes bytes, zstd, crc32c, and sharding_indexed around them.
ZarrMetadata read_zarr3(const JsonView& json);

}  // namespace bezel::io
