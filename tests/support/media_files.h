#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// Tiny media files, made byte by byte, so that tests can also make bad ones.
namespace bezel::test {

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// Number in big-endian or little-endian order.
inline std::string big_endian(std::uint64_t value, int width) {
  std::string out;
  for (int i = width - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
  return out;
}

inline std::string little_endian(std::uint64_t value, int width) {
  const std::string out = big_endian(value, width);
  return {out.rbegin(), out.rend()};
}

std::string png_chunk(const std::string& type, const std::string& body);

struct PngParts {
  std::uint32_t width = 1, height = 1;
  int bits = 8, color = 2;       ///< 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
  std::string before_data = {};  ///< chunks between header and data
  std::string rows = {};         ///< each row: a filter byte 0, then its pixels
  std::string after_data = {};   ///< chunks behind the data
};
std::string make_png(const PngParts& parts);

/// JPEG of quality 100 without subsampling from interleaved components; `exif` becomes an APP1 segment unless empty.
std::string make_jpeg(int width, int height, int components, const std::vector<std::uint8_t>& pixels,
                      const std::string& exif = "");

/// EXIF block that holds only an orientation.
std::string make_exif(int orientation, bool big_endian_order = false);

/// RIFF WAVE file around `data`; `claimed_bytes` is what its data chunk says (0: the truth).
std::string make_wav(int format, int channels, std::uint32_t rate, int bits, const std::string& data,
                     std::uint32_t claimed_bytes = 0);

std::string pcm16(const std::vector<std::int16_t>& samples);
std::string float32(const std::vector<float>& samples);

}  // namespace bezel::test
