#include <algorithm>
#include <array>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kFileHeaderBytes = 14;

/// What the headers of a BMP say, checked.
struct BmpHeader {
  input::ImageSize size;
  bool top_down = false;
  int bits = 0;  ///< a pixel
  bool has_565 = false;
  std::size_t pixels_at = 0;
  std::size_t palette_at = 0;
  std::size_t palette_entry_bytes = 4;
  std::size_t palette_size = 0;
};

std::uint32_t number(ImageBytes bytes, std::size_t at, int width) {
  std::uint32_t value = 0;
  for (int i = width - 1; i >= 0; --i)
    value = value << 8 | std::to_integer<std::uint32_t>(bytes[at + static_cast<std::size_t>(i)]);
  return value;
}

void check_bits(BmpHeader& header, ImageBytes bytes, std::uint32_t compression, std::string_view source) {
  constexpr std::array kBits{1, 4, 8, 16, 24, 32};
  const bool known = std::find(kBits.begin(), kBits.end(), header.bits) != kBits.end();
  if (compression == 1 || compression == 2)
    throw Error(source, ": BMP with run-length compression, which is not read; save it as PNG");
  if (!known || (compression != 0 && compression != 3) || (compression == 3 && header.bits < 16))
    throw Error(source, ": BMP of ", header.bits, " bits a pixel with compression ", compression,
                ", expected 1, 4, 8, 16, 24 or 32 bits without one; save it as PNG");
  if (compression == 0) return;
  constexpr std::size_t kMasksAt = kFileHeaderBytes + 40;
  if (bytes.size() < kMasksAt + 12) throw Error(source, ": bad BMP: the file is truncated");
  const std::array masks{number(bytes, kMasksAt, 4), number(bytes, kMasksAt + 4, 4), number(bytes, kMasksAt + 8, 4)};
  constexpr std::array<std::uint32_t, 3> k565{0xf800, 0x7e0, 0x1f}, k555{0x7c00, 0x3e0, 0x1f},
      k888{0xff0000, 0xff00, 0xff};
  header.has_565 = header.bits == 16 && masks == k565;
  if (!header.has_565 && masks != (header.bits == 16 ? k555 : k888))
    throw Error(source, ": BMP with color masks that are not read; save it as PNG");
}

BmpHeader parse_header(ImageBytes bytes, std::string_view source) {
  if (bytes.size() < kFileHeaderBytes + 12) throw Error(source, ": bad BMP: the file is truncated");
  BmpHeader header;
  header.pixels_at = number(bytes, 10, 4);
  const std::size_t info_bytes = number(bytes, 14, 4);
  if (info_bytes != 12 && (info_bytes < 40 || info_bytes > 124))
    throw Error(source, ": bad BMP: a header of ", info_bytes, " bytes, expected 12 or 40 to 124");
  if (bytes.size() - kFileHeaderBytes < info_bytes) throw Error(source, ": bad BMP: the file is truncated");
  const bool is_old = info_bytes == 12;
  const std::int64_t height =
      is_old ? static_cast<std::int64_t>(number(bytes, 20, 2)) : static_cast<std::int32_t>(number(bytes, 22, 4));
  header.top_down = height < 0;
  header.size = {header.top_down ? -height : height, is_old ? static_cast<std::int64_t>(number(bytes, 18, 2))
                                                            : static_cast<std::int32_t>(number(bytes, 18, 4))};
  header.bits = static_cast<int>(number(bytes, is_old ? 24 : 28, 2));
  check_bits(header, bytes, is_old ? 0 : number(bytes, 30, 4), source);
  header.palette_at = kFileHeaderBytes + info_bytes;
  header.palette_entry_bytes = is_old ? 3 : 4;
  if (header.bits <= 8) {
    const std::size_t most = std::size_t{1} << header.bits;
    const std::size_t said = is_old ? 0 : number(bytes, 46, 4);
    header.palette_size = said == 0 ? most : std::min(said, most);
  }
  if (header.pixels_at < header.palette_at)
    throw Error(source, ": bad BMP: pixels at byte ", header.pixels_at, ", inside the header");
  return header;
}

std::uint8_t scale_bits(std::uint32_t value, std::uint32_t most) {
  return static_cast<std::uint8_t>((value & most) * 255 / most);
}

/// Color of pixel `x` in a stored row.
std::array<std::uint8_t, 3> color_at(const BmpHeader& header, ImageBytes bytes, std::size_t row_at, std::size_t x) {
  const auto bits = static_cast<std::size_t>(header.bits);
  std::size_t at = row_at + x * bits / 8;
  if (header.bits == 16) {
    const std::uint32_t value = number(bytes, at, 2);
    if (header.has_565) return {scale_bits(value >> 11, 31), scale_bits(value >> 5, 63), scale_bits(value, 31)};
    return {scale_bits(value >> 10, 31), scale_bits(value >> 5, 31), scale_bits(value, 31)};
  }
  if (header.bits <= 8) {
    const std::size_t shift = 8 - bits - x * bits % 8;
    const std::size_t index = number(bytes, at, 1) >> shift & ((1u << bits) - 1);
    if (index >= header.palette_size) return {};
    at = header.palette_at + index * header.palette_entry_bytes;
  }
  const auto channel = [&](std::size_t i) { return std::to_integer<std::uint8_t>(bytes[at + i]); };
  return {channel(2), channel(1), channel(0)};
}

}  // namespace

ImageHeader read_bmp_header(ImageBytes bytes, std::string_view source) { return {parse_header(bytes, source).size, 1}; }

RgbImage decode_bmp(ImageBytes bytes, const ImageHeader& checked, std::string_view source) {
  const BmpHeader header = parse_header(bytes, source);
  const auto height = static_cast<std::size_t>(checked.size.height),
             width = static_cast<std::size_t>(checked.size.width);
  const std::size_t row_bytes = (width * static_cast<std::size_t>(header.bits) + 31) / 32 * 4;
  const std::size_t palette_end = header.palette_at + header.palette_size * header.palette_entry_bytes;
  if (palette_end > bytes.size() || header.pixels_at > bytes.size() ||
      height > (bytes.size() - header.pixels_at) / row_bytes)
    throw Error(source, ": bad BMP: the file is truncated");
  RgbImage out{checked.size, {}};
  out.pixels.resize(3 * height * width);
  std::uint8_t* to = out.pixels.data();
  for (std::size_t y = 0; y < height; ++y) {
    const std::size_t row_at = header.pixels_at + row_bytes * (header.top_down ? y : height - 1 - y);
    for (std::size_t x = 0; x < width; ++x, to += 3) {
      const auto color = color_at(header, bytes, row_at, x);
      std::copy(color.begin(), color.end(), to);
    }
  }
  return out;
}

}  // namespace bezel::data
