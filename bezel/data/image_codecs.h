#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bezel/data/image_decode.h"

/// The formats behind image_decode.h. All work on one image in memory, throw Error naming `source`, and give pixels
/// as stored: orientation is read here and applied by the caller.
namespace bezel::data {

using ImageBytes = std::span<const std::byte>;

/// What the header of an image says.
struct ImageHeader {
  input::ImageSize size;  ///< as stored
  int orientation = 1;    ///< EXIF orientation, 1 to 8
};

ImageHeader read_jpeg_header(ImageBytes bytes, std::string_view source);
ImageHeader read_png_header(ImageBytes bytes, std::string_view source);
ImageHeader read_webp_header(ImageBytes bytes, std::string_view source);
ImageHeader read_bmp_header(ImageBytes bytes, std::string_view source);
ImageHeader read_gif_header(ImageBytes bytes, std::string_view source);
ImageHeader read_tiff_header(ImageBytes bytes, std::string_view source);

/// `header` must come from the same bytes and have passed check_image_size.
RgbImage decode_jpeg(ImageBytes bytes, const ImageHeader& header, std::string_view source);
RgbImage decode_png(ImageBytes bytes, const ImageHeader& header, std::string_view source);
RgbImage decode_webp(ImageBytes bytes, const ImageHeader& header, std::string_view source);
RgbImage decode_bmp(ImageBytes bytes, const ImageHeader& header, std::string_view source);
RgbImage decode_gif(ImageBytes bytes, const ImageHeader& header, std::string_view source);
RgbImage decode_tiff(ImageBytes bytes, const ImageHeader& header, std::string_view source);

/// Orientations 5 to 8 swap rows and columns.
bool swaps_sides(int orientation);

/// Turns stored pixels upright by their EXIF orientation.
RgbImage make_upright(RgbImage stored, int orientation);

/// Orientation tag of an EXIF block, with or without its "Exif" prefix, as Pillow reads it: 0 for an invalid value
/// of 1 to 8, nothing where the tag is missing.
std::optional<int> exif_orientation(ImageBytes exif);

/// Orientation named by an XMP packet, the fallback when EXIF has none.
std::optional<int> xmp_orientation(ImageBytes xmp);

/// Of both sources, as Pillow chooses; 1 where the value is outside 1..8.
int choose_orientation(std::optional<int> exif, std::optional<int> xmp);

}  // namespace bezel::data
