#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "bezel/input/media_size.h"

namespace bezel::data {

/// Largest image that is decoded, in pixels (Pillow's limit).
inline constexpr std::int64_t kMaxImagePixels = 89478485;

/// A decoded image, upright.
struct RgbImage {
  input::ImageSize size;
  std::vector<std::uint8_t> pixels;  ///< [height, width, 3]
};

/// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF file, recognized by its first bytes, to what Pillow's
/// exif_transpose(Image.open(f)).convert("RGB") gives: EXIF orientation applied, alpha dropped, CMYK inverted, first
/// frame of an animation, first page. `source` names the image in errors. Throws Error on anything truncated, damaged
/// or too large.
RgbImage decode_rgb(std::span<const std::byte> bytes, std::string_view source);

/// Size after EXIF orientation, from the header alone. Throws Error as decode_rgb does for a bad header.
input::ImageSize probe_image_size(std::span<const std::byte> bytes, std::string_view source);

}  // namespace bezel::data
