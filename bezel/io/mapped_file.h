#pragma once

#include <cstddef>
#include <memory>
#include <string>

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
  /// Lets whole pages within [begin, begin + size) go from memory.
  void release(std::size_t begin, std::size_t size_bytes) const;
  std::size_t size_bytes() const { return size_bytes_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const std::byte* data, std::size_t size_bytes);

  std::string path_;
  const std::byte* data_;
  std::size_t size_bytes_;
  int watch_ = -1;
};

}  // namespace bezel::io
