#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bezel/io/zarr_metadata.h"
#include "bezel/io/zarr_store.h"

namespace bezel::io {

/// Takes `bytes`, elements of an array in C order from element `first` on.
using ZarrTarget = std::function<void(std::size_t first, std::span<const std::byte> bytes)>;

/// An array of zarr 2 or zarr 3 as Orbax writes it. Borrows the store. Reference: https://zarr-specs.readthedocs.io
class ZarrArray {
 public:
  /// Reads what describes the array `name`. Throws Error naming the array when it is missing, and as read_zarr2 and
  /// read_zarr3 do.
  static ZarrArray open(const ZarrStore& store, const std::string& name);

  const std::string& name() const { return name_; }
  DType dtype() const { return metadata_.dtype; }
  const std::vector<std::int64_t>& shape() const { return metadata_.shape; }
  std::size_t num_elements() const;

  /// Hands every stored element to `target`, in pieces of at most 1 MiB, each of whole elements. Elements of missing
  /// chunks are left out: they are 0. Throws Error when a chunk is damaged, of another size, or missing where the
  /// array's fill value is not 0.
  void read(const ZarrTarget& target) const;

 private:
  std::string chunk_key(const std::vector<std::int64_t>& idx) const;
  void read_shard(const OcdbtValue& shard, const std::vector<std::int64_t>& origin, const std::string& where,
                  const ZarrTarget& target) const;

  const ZarrStore* store_ = nullptr;
  std::string name_;
  ZarrMetadata metadata_;
};

}  // namespace bezel::io
