#include "bezel/data/tiff_pixels.h"

#include <algorithm>
#include <cstring>

namespace bezel::data {
namespace {

// Sample `idx` of a row, as stored.
unsigned stored_sample(const std::uint8_t* row, int bits, std::int64_t idx) {
  if (bits == 8) return row[idx];
  if (bits == 16) {
    std::uint16_t value;
    std::memcpy(&value, row + 2 * idx, sizeof value);
    return value;
  }
  const std::int64_t bit = idx * bits;
  return row[bit / 8] >> (8 - bits - bit % 8) & ((1u << bits) - 1);
}

std::uint8_t clipped(unsigned value) { return static_cast<std::uint8_t>(std::min(value, 255u)); }

std::uint8_t color_byte(unsigned value, int bits) { return static_cast<std::uint8_t>(bits == 16 ? value >> 8 : value); }

// a * b / 255, rounded as Pillow rounds it.
unsigned scaled(unsigned a, unsigned b) {
  const unsigned product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Pillow does not turn 16-bit gray around whose 0 is white.
std::uint8_t gray_byte(unsigned value, const TiffPixels& pixels) {
  if (pixels.bits == 16) return clipped(value);
  const auto byte = static_cast<std::uint8_t>(value * 255 / ((1u << pixels.bits) - 1));
  return pixels.color == TiffColor::kGrayFromWhite ? static_cast<std::uint8_t>(255 - byte) : byte;
}

}  // namespace

std::int64_t TiffPixels::row_bytes(std::int64_t columns) const {
  return (columns * (is_separate ? 1 : samples) * bits + 7) / 8;
}

void tiff_row_to_rgb(const TiffPixels& pixels, std::span<const std::uint8_t* const> planes, std::int64_t columns,
                     std::uint8_t* rgb) {
  const auto sample = [&](std::int64_t column, int i) {
    return pixels.is_separate ? stored_sample(planes[static_cast<std::size_t>(i)], pixels.bits, column)
                              : stored_sample(planes[0], pixels.bits, column * pixels.samples + i);
  };
  for (std::int64_t x = 0; x < columns; ++x, rgb += 3) {
    const unsigned first = sample(x, 0);
    if (pixels.color == TiffColor::kPalette) {
      std::copy_n(pixels.palette[first].data(), 3, rgb);
    } else if (pixels.num_colors() == 1) {
      std::memset(rgb, gray_byte(first, pixels), 3);
    } else {
      for (int c = 0; c < 3; ++c) rgb[c] = color_byte(sample(x, c), pixels.bits);
    }
    if (pixels.color == TiffColor::kCmyk) {
      const unsigned light = 255u - color_byte(sample(x, 3), pixels.bits);
      for (int c = 0; c < 3; ++c) rgb[c] = static_cast<std::uint8_t>(light - scaled(rgb[c], light));
    }
    if (pixels.is_premultiplied) {
      const unsigned alpha = color_byte(sample(x, pixels.num_colors()), pixels.bits);
      for (int c = 0; c < 3 && alpha != 255; ++c)
        rgb[c] = alpha == 0 ? std::uint8_t{0} : clipped(255u * rgb[c] / alpha);
    }
  }
}

}  // namespace bezel::data
