#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace bezel::io {

/// An open regular file, read by offset; never waits for the writer of a FIFO.
class RegularFile {
 public:
  /// Follows symlinks. Throws Error (kIo) when it cannot be opened, Error when it is a folder, FIFO or device.
  explicit RegularFile(const std::string& path);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  /// Fills `to` from byte `offset` on; fewer than `size_bytes` only at the end of the file. Throws Error (kIo).
  std::size_t read(char* to, std::size_t size_bytes, std::uint64_t offset) const;
  std::uint64_t size_bytes() const { return size_bytes_; }  ///< when it was opened
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
};

/// Whether something of that name is there, if only a link that leads nowhere: opening it then says what is wrong.
bool is_there(const std::string& path);

/// All of a regular file. Throws as RegularFile does.
std::string read_text_file(const std::string& path);

}  // namespace bezel::io
