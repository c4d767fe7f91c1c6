#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace bezel::io {

/// The file being written by write_file_atomically.
class FileSink {
 public:
  FileSink(int fd, std::string path);

  /// Appends bytes; throws Error (kIo) when not all of them could be written.
  void write(const void* data, std::size_t size_bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Writes bytes at a place of their own, leaving where write() appends; throws as write() does.
  void write_at(std::size_t offset_bytes, const void* data, std::size_t size_bytes);

 private:
  void write_all(const void* data, std::size_t size_bytes, const std::function<long(const char*, std::size_t)>& some);

  int fd_;
  std::string path_;
};

/// Replaces `path` by what `fill` writes, wholly or not at all: a temporary file beside it is filled, flushed to disk
/// and renamed over it. When anything fails, `fill` included, the old file is untouched and the temporary is gone. A
/// symlink is followed. Throws Error (kIo), and whatever `fill` throws. A process killed half-way leaves
/// "<path>.<pid>-<n>.tmp" behind.
void write_file_atomically(const std::string& path, const std::function<void(FileSink&)>& fill);
void write_file_atomically(const std::string& path, std::string_view text);

/// Makes the names in `folder` last through a crash of the machine. Throws Error (kIo).
void flush_folder(const std::string& folder);

}  // namespace bezel::io
