#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include <tiffio.h>

#include "bezel/data/image_codecs.h"
#include "bezel/data/tiff_pixels.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::int64_t kSmallPixels = std::int64_t{1} << 22;
constexpr std::int64_t kMaxBlockBytes = std::int64_t{1} << 30;  // of a strip or tile, unpacked

/// The file in memory, as libtiff reads it, and the first thing that it found wrong.
struct TiffMemory {
  ImageBytes bytes;
  std::size_t at = 0;
  std::string problem{};
  bool lost_palette = false;
};

TiffMemory& memory_of(thandle_t handle) { return *static_cast<TiffMemory*>(handle); }

tmsize_t read_memory(thandle_t handle, void* to, tmsize_t count) {
  TiffMemory& file = memory_of(handle);
  const std::size_t left = file.bytes.size() - std::min(file.at, file.bytes.size());
  const std::size_t got = std::min(left, static_cast<std::size_t>(std::max<tmsize_t>(count, 0)));
  if (got > 0) std::memcpy(to, file.bytes.data() + file.at, got);
  file.at += got;
  return static_cast<tmsize_t>(got);
}

tmsize_t write_nothing(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek_memory(thandle_t handle, toff_t offset, int whence) {
  TiffMemory& file = memory_of(handle);
  const std::size_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file.at : file.bytes.size();
  file.at = base + static_cast<std::size_t>(offset);
  return file.at;
}

int close_nothing(thandle_t) { return 0; }

toff_t size_of_memory(thandle_t handle) { return memory_of(handle).bytes.size(); }

int keep_problem(TIFF*, void* user, const char*, const char* format, std::va_list arguments) {
  auto& problem = static_cast<TiffMemory*>(user)->problem;
  if (!problem.empty()) return 1;
  char text[200];
  std::vsnprintf(text, sizeof text, format, arguments);
  problem = text;
  return 1;
}

// libtiff takes an image whose palette cannot be read for a gray one.
int look_at_warning(TIFF*, void* user, const char*, const char* format, std::va_list arguments) {
  char text[200];
  std::vsnprintf(text, sizeof text, format, arguments);
  if (std::string_view(text).find("ColorMap") != std::string_view::npos)
    static_cast<TiffMemory*>(user)->lost_palette = true;
  return 1;
}

/// The first page of a TIFF file. Borrows the bytes.
class TiffReader {
 public:
  TiffReader(ImageBytes bytes, std::string_view source) : memory_{bytes}, source_(source), file_(nullptr, TIFFClose) {
    const std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)> options(TIFFOpenOptionsAlloc(),
                                                                                   TIFFOpenOptionsFree);
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_problem, &memory_);
    TIFFOpenOptionsSetWarningHandlerExtR(options.get(), look_at_warning, &memory_);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), kMaxBlockBytes);
    // m: libtiff may not map the file, which is in memory.
    file_.reset(TIFFClientOpenExt("image", "rm", &memory_, read_memory, write_nothing, seek_memory, close_nothing,
                                  size_of_memory, nullptr, nullptr, options.get()));
    if (!file_) fail("bad TIFF");
    if (memory_.lost_palette) fail("bad or truncated TIFF: its palette cannot be read");
    size_ = {number<std::uint32_t>(TIFFTAG_IMAGELENGTH), number<std::uint32_t>(TIFFTAG_IMAGEWIDTH)};
    orientation_ = number<std::uint16_t>(TIFFTAG_ORIENTATION);
  }

  ImageHeader header() const { return {size_, choose_orientation(orientation_, std::nullopt)}; }

  RgbImage decode() {
    read_layout();
    RgbImage out{size_, {}};
    out.pixels.resize(static_cast<std::size_t>(size_.height * size_.width * 3));
    const bool is_tiled = TIFFIsTiled(file_.get()) != 0;
    // A last strip may claim more rows than the image has.
    const std::int64_t rows = is_tiled
                                  ? number<std::uint32_t>(TIFFTAG_TILELENGTH)
                                  : std::min<std::int64_t>(number<std::uint32_t>(TIFFTAG_ROWSPERSTRIP), size_.height);
    const std::int64_t columns = is_tiled ? number<std::uint32_t>(TIFFTAG_TILEWIDTH) : size_.width;
    // Tiles may reach beyond the image, but a small one has no use for a huge tile.
    const std::int64_t most = std::max(kSmallPixels, 4 * size_.height * size_.width);
    if (rows <= 0 || columns <= 0 || rows > most / columns) fail("bad TIFF: strips or tiles of no such size");
    for (std::int64_t y = 0; y < size_.height; y += rows)
      for (std::int64_t x = 0; x < size_.width; x += columns) read_block({x, y, columns, rows}, is_tiled, out);
    return out;
  }

 private:
  struct Block {
    std::int64_t x, y, columns, rows;
  };

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(source_, ": ", what, memory_.problem.empty() ? "" : ": ", memory_.problem);
  }

  /// Value of a tag, or its default by the format.
  template <typename Number>
  Number number(std::uint32_t tag) const {
    Number value = 0;
    TIFFGetFieldDefaulted(file_.get(), tag, &value);
    return value;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(source_, ": a TIFF image with ", what, " is not read; save it as PNG");
  }

  void read_layout() {
    const auto compression = number<std::uint16_t>(TIFFTAG_COMPRESSION);
    if (TIFFIsCODECConfigured(compression) == 0) refuse("compression " + std::to_string(compression));
    pixels_.bits = number<std::uint16_t>(TIFFTAG_BITSPERSAMPLE);
    pixels_.samples = number<std::uint16_t>(TIFFTAG_SAMPLESPERPIXEL);
    pixels_.is_separate = number<std::uint16_t>(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE && pixels_.samples > 1;
    read_color(compression);
    const auto bits = pixels_.bits;
    const bool is_few = pixels_.num_colors() == 1 && (bits == 1 || bits == 2 || bits == 4) && pixels_.samples == 1;
    if (!is_few && bits != 8 && bits != 16) refuse(std::to_string(bits) + " bits in each of its samples");
    if (bits == 16 && pixels_.color == TiffColor::kPalette) refuse("a palette of 65,536 colors");
    const auto kind = number<std::uint16_t>(TIFFTAG_SAMPLEFORMAT);
    if (kind != SAMPLEFORMAT_UINT && kind != SAMPLEFORMAT_VOID) refuse("signed or floating-point samples");
    if (pixels_.samples < pixels_.num_colors() || pixels_.samples > 8)
      refuse(std::to_string(pixels_.samples) + " samples in each pixel");
    std::uint16_t num_extra = 0;
    const std::uint16_t* extra = nullptr;
    if (TIFFGetField(file_.get(), TIFFTAG_EXTRASAMPLES, &num_extra, &extra) != 0 && num_extra > 0)
      pixels_.is_premultiplied = extra[0] == EXTRASAMPLE_ASSOCALPHA && pixels_.samples > pixels_.num_colors();
  }

  void read_color(std::uint16_t compression) {
    const auto photometric = number<std::uint16_t>(TIFFTAG_PHOTOMETRIC);
    switch (photometric) {
      case PHOTOMETRIC_MINISWHITE:
        pixels_.color = TiffColor::kGrayFromWhite;
        return;
      case PHOTOMETRIC_MINISBLACK:
        pixels_.color = TiffColor::kGray;
        return;
      case PHOTOMETRIC_RGB:
        pixels_.color = TiffColor::kRgb;
        return;
      case PHOTOMETRIC_PALETTE:
        return read_palette();
      case PHOTOMETRIC_SEPARATED:
        pixels_.color = TiffColor::kCmyk;
        return;
      case PHOTOMETRIC_YCBCR:
        if (compression != COMPRESSION_JPEG) refuse("uncompressed YCbCr colors");
        TIFFSetField(file_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        pixels_.color = TiffColor::kRgb;
        return;
      default:
        refuse("colors of kind " + std::to_string(photometric));
    }
  }

  void read_palette() {
    pixels_.color = TiffColor::kPalette;
    if (pixels_.bits > 8) return;
    std::uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
    if (TIFFGetField(file_.get(), TIFFTAG_COLORMAP, &red, &green, &blue) == 0) refuse("a palette that is missing");
    for (int i = 0; i < 1 << pixels_.bits; ++i)
      pixels_.palette.push_back({static_cast<std::uint8_t>(red[i] >> 8), static_cast<std::uint8_t>(green[i] >> 8),
                                 static_cast<std::uint8_t>(blue[i] >> 8)});
  }

  void read_block(const Block& block, bool is_tiled, RgbImage& out) {
    const std::int64_t row_bytes = pixels_.row_bytes(block.columns);
    const std::int64_t rows = is_tiled ? block.rows : std::min(block.rows, size_.height - block.y);
    const std::int64_t plane_bytes = row_bytes * rows;
    const int num_planes = pixels_.is_separate ? pixels_.samples : 1;
    const std::int64_t unpacked = is_tiled ? TIFFTileSize64(file_.get()) : TIFFVStripSize64(file_.get(), rows);
    if (plane_bytes > kMaxBlockBytes || unpacked != plane_bytes) fail("bad TIFF: strips or tiles of another size");
    scratch_.resize(static_cast<std::size_t>(plane_bytes * num_planes));
    for (int plane = 0; plane < num_planes; ++plane) read_plane(block, is_tiled, plane, plane_bytes);
    std::vector<const std::uint8_t*> starts(static_cast<std::size_t>(num_planes));
    const std::int64_t shown = std::min(block.columns, size_.width - block.x);
    for (std::int64_t y = 0; y < std::min(rows, size_.height - block.y); ++y) {
      for (int plane = 0; plane < num_planes; ++plane)
        starts[static_cast<std::size_t>(plane)] = scratch_.data() + plane * plane_bytes + y * row_bytes;
      tiff_row_to_rgb(pixels_, starts, shown, out.pixels.data() + 3 * ((block.y + y) * size_.width + block.x));
    }
  }

  void read_plane(const Block& block, bool is_tiled, int plane, std::int64_t plane_bytes) {
    const auto x = static_cast<std::uint32_t>(block.x), y = static_cast<std::uint32_t>(block.y);
    const auto which = static_cast<std::uint16_t>(plane);
    std::uint8_t* to = scratch_.data() + plane * plane_bytes;
    const tmsize_t got =
        is_tiled ? TIFFReadEncodedTile(file_.get(), TIFFComputeTile(file_.get(), x, y, 0, which), to, plane_bytes)
                 : TIFFReadEncodedStrip(file_.get(), TIFFComputeStrip(file_.get(), y, which), to, plane_bytes);
    if (got != plane_bytes) fail("bad or truncated TIFF");
  }

  TiffMemory memory_;
  std::string_view source_;
  std::unique_ptr<TIFF, decltype(&TIFFClose)> file_;
  input::ImageSize size_{};
  int orientation_ = 1;
  TiffPixels pixels_;
  std::vector<std::uint8_t> scratch_;
};

}  // namespace

ImageHeader read_tiff_header(ImageBytes bytes, std::string_view source) { return TiffReader(bytes, source).header(); }

RgbImage decode_tiff(ImageBytes bytes, const ImageHeader&, std::string_view source) {
  return TiffReader(bytes, source).decode();
}

}  // namespace bezel::data
