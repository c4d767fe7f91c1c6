#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bezel/io/gguf_types.h"
#include "bezel/io/gguf_value.h"
#include "bezel/io/mapped_file.h"

namespace bezel::io {

/// A tensor of a GGUF file.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  std::vector<std::int64_t> shape;  ///< [rows, columns] as elsewhere; the file lists it the other way round
  std::size_t begin_bytes = 0;      ///< offset of the first byte in the file
  std::size_t size_bytes = 0;
};

/// One GGUF file mapped into memory (version 2 or 3, little-endian). Opening reads and checks metadata and the list of
/// tensors, nothing else. Reference: ggml/docs/gguf.md.
class GgufFile {
 public:
  /// Throws Error when the file is no GGUF file in every detail: magic, version, counts and lengths within the file, no
  /// key or name twice, no array of arrays, types that are read, sizes that do not overflow, tensors one after the
  /// other from the start of the data without overlap or rest, each aligned. Throws Error (kIo) when it cannot be read.
  static std::shared_ptr<const GgufFile> open(const std::string& path);

  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  ///< in the order of their data
  const GgufTensor* find(std::string_view name) const;
  /// First byte of a tensor of this file. Read-only memory, valid while this file lives.
  const std::byte* data(const GgufTensor& tensor) const { return map_->data() + tensor.begin_bytes; }
  /// Evicts the pages of a tensor.
  void evict(const GgufTensor& tensor) const { map_->evict(data(tensor), tensor.size_bytes); }

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  /// The value of `key`; throws Error when it is missing.
  const GgufValue& at(std::string_view key) const;
  /// The value of `key`, or null.
  const GgufValue* get(std::string_view key) const;
  const std::shared_ptr<const MappedFile>& map() const { return map_; }
  const std::string& path() const { return map_->path(); }
  std::size_t size_bytes() const { return map_->size_bytes(); }

 private:
  friend class GgufReader;

  explicit GgufFile(std::shared_ptr<const MappedFile> map) : map_(std::move(map)) {}

  std::shared_ptr<const MappedFile> map_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, const GgufTensor*> by_name_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
};

}  // namespace bezel::io
