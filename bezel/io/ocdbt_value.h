#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace bezel::io {

/// A value of a key-value store: bytes in memory, or a range of a file, which is read when it is needed.
class OcdbtValue {
 public:
  explicit OcdbtValue(std::string bytes) : bytes_(std::move(bytes)), length_bytes_(bytes_.size()) {}
  OcdbtValue(std::string path, std::uint64_t offset_bytes, std::uint64_t length_bytes)
      : path_(std::move(path)), offset_bytes_(offset_bytes), length_bytes_(length_bytes) {}

  /// A whole file. Throws Error (kIo) when it cannot be opened.
  static OcdbtValue of_file(const std::string& path);

  std::uint64_t size_bytes() const { return length_bytes_; }
  /// Fills `to` from byte `offset` of the value on. Throws Error when the value, or the file, ends before.
  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const;
  /// Part of the value. Throws Error naming the file when the value ends before.
  OcdbtValue slice(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;
  /// All of it. Throws Error when it is larger than `max_bytes`.
  std::string text(std::uint64_t max_bytes) const;

 private:
  void check_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

  std::string bytes_;
  std::string path_;  ///< "" for a value in memory
  std::uint64_t offset_bytes_ = 0;
  std::uint64_t length_bytes_ = 0;
};

}  // namespace bezel::io
