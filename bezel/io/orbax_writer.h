#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/io/ocdbt_writer.h"
#include "bezel/io/safetensors.h"
#include "bezel/io/zarr_store.h"

namespace bezel::io {

/// Writes a checkpoint as Orbax does: arrays of zarr 2, each one chunk with zstd, in a store of OCDBT, and _METADATA
/// with their names. ZarrStore and ZarrArray are the reader.
class OrbaxWriter {
 public:
  /// `folder` is there and empty.
  explicit OrbaxWriter(const std::string& folder);

  using Put = std::function<void(std::span<const std::byte> bytes)>;
  /// Adds an array of float32 or bfloat16, whose elements `fill` puts in C order. Throws std::logic_error when these
  /// are more or fewer than the shape says, Error (kIo) when writing fails.
  void put(const ZarrName& name, DType dtype, const std::vector<std::int64_t>& shape,
           const std::function<void(const Put&)>& fill);
  /// Writes what names the arrays. Nothing may be put afterwards.
  void finish();

 private:
  std::string folder_;
  OcdbtWriter store_;
  Json tree_ = Json::object();
};

}  // namespace bezel::io
