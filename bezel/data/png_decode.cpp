#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

/// libpng's decoder over bytes in memory. libpng reports errors by longjmp, so the methods that call it hold nothing
/// with a destructor and return false, with message() set.
class PngReader {
 public:
  explicit PngReader(ImageBytes bytes) : bytes_(bytes) {}
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  /// Reads the header and sets up rows of whole bytes, colors as stored, without alpha.
  bool open();
  /// Fills `out`, [height, row_bytes()].
  bool read_pixels(png_byte* out);

  std::size_t row_bytes() const { return row_bytes_; }
  int bits() const { return bits_; }
  bool is_gray() const { return (color_ & PNG_COLOR_MASK_COLOR) == 0; }
  bool is_palette() const { return color_ == PNG_COLOR_TYPE_PALETTE; }
  bool is_wide_gray() const { return color_ == PNG_COLOR_TYPE_GRAY && bits_ == 16; }
  /// Colors of a palette image; entries that the file leaves out are black, as in Pillow.
  std::array<png_color, 256> palette() const;
  const char* message() const { return message_; }

 private:
  static void on_error(png_structp png, png_const_charp message);
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep out, png_size_t count);
  void set_transforms();

  ImageBytes bytes_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t at_ = 0;
  std::size_t row_bytes_ = 0;
  int bits_ = 0;
  int color_ = 0;
  int num_passes_ = 1;
  std::jmp_buf on_failure_{};
  char message_[160] = "out of memory";
};

void PngReader::on_error(png_structp png, png_const_charp message) {
  auto& self = *static_cast<PngReader*>(png_get_error_ptr(png));
  std::snprintf(self.message_, sizeof(self.message_), "%s", message);
  std::longjmp(self.on_failure_, 1);
}

void PngReader::on_read(png_structp png, png_bytep out, png_size_t count) {
  auto& self = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > self.bytes_.size() - self.at_) png_error(png, "the file is truncated");
  std::memcpy(out, self.bytes_.data() + self.at_, count);
  self.at_ += count;
}

void PngReader::set_transforms() {
  bits_ = png_get_bit_depth(png_, info_);
  color_ = png_get_color_type(png_, info_);
  if (is_palette()) {
    png_set_packing(png_);
  } else if (is_gray() && bits_ < 8) {
    png_set_expand_gray_1_2_4_to_8(png_);
  } else if (bits_ == 16 && !is_wide_gray()) {
    png_set_strip_16(png_);  // Pillow keeps the high byte of all but plain grey
  }
  png_set_strip_alpha(png_);
  num_passes_ = png_set_interlace_handling(png_);
  png_read_update_info(png_, info_);
  row_bytes_ = png_get_rowbytes(png_, info_);
}

bool PngReader::open() {
  if (setjmp(on_failure_) != 0) return false;
  png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
  if (png_ == nullptr) return false;
  info_ = png_create_info_struct(png_);
  if (info_ == nullptr) return false;
  png_set_read_fn(png_, this, on_read);
  png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // the area has been checked
  // Chunks that do not affect pixels are skipped unread: color profiles, text, transparency.
  png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(png_, info_);
  set_transforms();
  return true;
}

bool PngReader::read_pixels(png_byte* out) {
  if (setjmp(on_failure_) != 0) return false;
  const png_uint_32 height = png_get_image_height(png_, info_);
  for (int pass = 0; pass < num_passes_; ++pass) {
    for (png_uint_32 row = 0; row < height; ++row) png_read_row(png_, out + row * row_bytes_, nullptr);
  }
  return true;
}

std::array<png_color, 256> PngReader::palette() const {
  std::array<png_color, 256> out{};
  png_colorp stored = nullptr;
  int count = 0;
  if (png_get_PLTE(png_, info_, &stored, &count) != 0) std::copy_n(stored, count, out.begin());
  return out;
}

/// Row of one byte a pixel, or of two for 16-bit grey, to RGB. Pillow clips 16-bit grey at 255 instead of scaling it.
void expand_row(const PngReader& reader, const std::array<png_color, 256>& palette, const png_byte* in,
                std::size_t width, std::uint8_t* out) {
  for (std::size_t x = 0; x < width; ++x, out += 3) {
    if (reader.is_palette()) {
      const png_color color = palette[in[x]];
      out[0] = color.red;
      out[1] = color.green;
      out[2] = color.blue;
    } else if (reader.is_wide_gray()) {
      std::memset(out, in[2 * x] != 0 ? 255 : in[2 * x + 1], 3);
    } else {
      std::memset(out, in[x], 3);
    }
  }
}

}  // namespace

RgbImage decode_png(ImageBytes bytes, const ImageHeader& header, std::string_view source) {
  PngReader reader(bytes);
  if (!reader.open()) throw Error(source, ": bad PNG: ", reader.message());
  const auto height = static_cast<std::size_t>(header.size.height);
  const auto width = static_cast<std::size_t>(header.size.width);
  std::vector<std::uint8_t> stored(height * reader.row_bytes());
  if (!reader.read_pixels(stored.data())) throw Error(source, ": bad PNG: ", reader.message());
  RgbImage out{header.size, {}};
  if (!reader.is_gray() && !reader.is_palette()) {
    out.pixels = std::move(stored);
    return out;
  }
  out.pixels.resize(height * width * 3);
  const auto palette = reader.palette();
  for (std::size_t y = 0; y < height; ++y) {
    expand_row(reader, palette, stored.data() + y * reader.row_bytes(), width, out.pixels.data() + 3 * y * width);
  }
  return out;
}

}  // namespace bezel::data
