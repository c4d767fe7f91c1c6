#include "bezel/data/image_decode.h"

#include <algorithm>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using namespace std::string_view_literals;

enum class Format { kJpeg, kPng, kWebp, kGif, kBmp, kTiff };

Format detect_format(ImageBytes bytes, std::string_view source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16));
  if (text.starts_with("\xff\xd8\xff")) return Format::kJpeg;
  if (text.starts_with("\x89PNG\r\n\x1a\n")) return Format::kPng;
  if (text.size() >= 12 && text.starts_with("RIFF") && text.substr(8, 4) == "WEBP") return Format::kWebp;
  if (text.starts_with("GIF87a") || text.starts_with("GIF89a")) return Format::kGif;
  if (text.starts_with("BM")) return Format::kBmp;
  // Of classic and large files, in both byte orders.
  for (const std::string_view magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv})
    if (text.starts_with(magic)) return Format::kTiff;
  throw Error(source, ": not an image that Bezel reads (JPEG, PNG, WebP, GIF, BMP or TIFF, told by the first bytes; ",
              bytes.size(), " bytes found)");
}

void check_image_size(const input::ImageSize& size, std::string_view source) {
  if (size.height <= 0 || size.width <= 0) {
    throw Error(source, ": image of ", size.width, " x ", size.height, " pixels, both sides must be positive");
  }
  if (size.height > kMaxImagePixels / size.width) {
    throw Error(source, ": image of ", size.width, " x ", size.height, " pixels, at most ", kMaxImagePixels,
                " pixels are read; scale it down");
  }
}

ImageHeader read_header(Format format, ImageBytes bytes, std::string_view source) {
  ImageHeader header;
  switch (format) {
    case Format::kJpeg:
      header = read_jpeg_header(bytes, source);
      break;
    case Format::kPng:
      header = read_png_header(bytes, source);
      break;
    case Format::kWebp:
      header = read_webp_header(bytes, source);
      break;
    case Format::kGif:
      header = read_gif_header(bytes, source);
      break;
    case Format::kBmp:
      header = read_bmp_header(bytes, source);
      break;
    case Format::kTiff:
      header = read_tiff_header(bytes, source);
      break;
  }
  check_image_size(header.size, source);
  return header;
}

}  // namespace

bool swaps_sides(int orientation) { return orientation >= 5; }

// Orientation n means that the first stored row and column are, in order of n:
// top left, top right, bottom right, bottom left, left top, right top, right bottom, left bottom.
RgbImage make_upright(RgbImage stored, int orientation) {
  if (orientation == 1) return stored;
  const bool swap = swaps_sides(orientation);
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const auto [height, width] = stored.size;
  RgbImage out;
  out.size = swap ? input::ImageSize{width, height} : stored.size;
  out.pixels.resize(stored.pixels.size());
  std::uint8_t* to = out.pixels.data();
  for (std::int64_t y = 0; y < out.size.height; ++y) {
    for (std::int64_t x = 0; x < out.size.width; ++x, to += 3) {
      const std::int64_t v = flip_rows ? out.size.height - 1 - y : y;
      const std::int64_t h = flip_columns ? out.size.width - 1 - x : x;
      const std::int64_t pixel = swap ? h * width + v : v * width + h;
      std::copy_n(stored.pixels.data() + 3 * pixel, 3, to);
    }
  }
  return out;
}

RgbImage decode_rgb(std::span<const std::byte> bytes, std::string_view source) {
  const Format format = detect_format(bytes, source);
  const ImageHeader header = read_header(format, bytes, source);
  switch (format) {
    case Format::kJpeg:
      return make_upright(decode_jpeg(bytes, header, source), header.orientation);
    case Format::kPng:
      return make_upright(decode_png(bytes, header, source), header.orientation);
    case Format::kGif:
      return make_upright(decode_gif(bytes, header, source), header.orientation);
    case Format::kBmp:
      return make_upright(decode_bmp(bytes, header, source), header.orientation);
    case Format::kTiff:
      return make_upright(decode_tiff(bytes, header, source), header.orientation);
    case Format::kWebp:
      break;
  }
  return make_upright(decode_webp(bytes, header, source), header.orientation);
}

input::ImageSize probe_image_size(std::span<const std::byte> bytes, std::string_view source) {
  const ImageHeader header = read_header(detect_format(bytes, source), bytes, source);
  if (!swaps_sides(header.orientation)) return header.size;
  return {header.size.width, header.size.height};
}

}  // namespace bezel::data
