#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bezel::io {

/// SHA-256 (FIPS 180-4) of bytes that come piece by piece.
class Sha256 {
 public:
  /// With the processor's own instructions where it has them, unless `plain`: ten times as fast.
  explicit Sha256(bool plain = false);

  void update(const void* data, std::size_t size_bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  /// 64 lower-case hexadecimal digits over everything so far; ends the object's use.
  std::string finish();

 private:
  using State = std::array<std::uint32_t, 8>;

  void (*compress_)(State& state, const std::uint8_t* block);
  State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::size_t block_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
};

std::string sha256(std::string_view text);

/// Of a regular file, which is read a piece at a time. Throws Error (kIo) when it cannot be read, Error when it is a
/// folder, FIFO or device.
std::string sha256_file(const std::string& path);

/// Lower-case hexadecimal digits, two a byte, and back. from_hex throws Error starting with `source` when `text` is
/// none.
std::string to_hex(std::string_view bytes);
std::string from_hex(std::string_view text, std::string_view source);

}  // namespace bezel::io
