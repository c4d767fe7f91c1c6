#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace bezel::data {

/// How the samples of a TIFF image become colors.
enum class TiffColor {
  kGray,
  kGrayFromWhite,  ///< 0 is white
  kRgb,
  kPalette,
  kCmyk,
};

struct TiffPixels {
  TiffColor color = TiffColor::kRgb;
  int bits = 8;                   ///< of a sample: 1, 2, 4, 8 or 16; below 8 packed from the high bit on
  int samples = 3;                ///< of a pixel, with those that are not shown
  bool is_separate = false;       ///< each sample has a plane of its own
  bool is_premultiplied = false;  ///< the sample behind the colors is an alpha that they were multiplied by
  std::vector<std::array<std::uint8_t, 3>> palette{};

  int num_colors() const { return color == TiffColor::kRgb ? 3 : color == TiffColor::kCmyk ? 4 : 1; }
  /// Bytes of a row of `columns` pixels in one plane.
  std::int64_t row_bytes(std::int64_t columns) const;
};

/// Converts `columns` pixels of one row to RGB as Pillow's convert("RGB") does: alpha dropped, 16-bit gray clipped at
/// 255, of other 16-bit samples the high byte. `planes` holds the row once, or once for each sample.
void tiff_row_to_rgb(const TiffPixels& pixels, std::span<const std::uint8_t* const> planes, std::int64_t columns,
                     std::uint8_t* rgb);

}  // namespace bezel::data
