#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "bezel/io/regular_file.h"

namespace bezel::io {

/// A whole file mapped read-only: pages come in when touched, and writing to them crashes.
/// A file that is replaced by rename stays readable; one that is truncated in place does not: see io/torn_map.h.
class MappedFile {
 public:
  /// Maps a regular file, following symlinks. Throws Error (kIo) when it cannot be opened, Error when it is a folder,
  /// FIFO or device; never blocks on one.
  static std::shared_ptr<const MappedFile> open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// First byte, page-aligned; null when the file is empty.
  const std::byte* data() const { return data_; }
  /// Evicts the whole pages within [begin, begin + size) of the map.
  void evict(const std::byte* begin, std::size_t size_bytes) const;
  /// Copies [begin, begin + size) of the map from the file, so that no page of it comes into memory. Throws Error (kIo)
  /// when the file no longer has it.
  void read(const std::byte* begin, std::size_t size_bytes, void* to) const;
  std::size_t size_bytes() const { return file_.size_bytes(); }
  const std::string& path() const { return file_.path(); }

 private:
  explicit MappedFile(const std::string& path);

  RegularFile file_;
  const std::byte* data_ = nullptr;
  int watch_ = -1;
};

}  // namespace bezel::io
