#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr int kMaxScans = 500;  // more are only seen in files made to cost time

/// libjpeg's decoder over bytes in memory. libjpeg reports errors by longjmp, so the methods that call it hold nothing
/// with a destructor and return false, with message() set.
class JpegReader {
 public:
  explicit JpegReader(ImageBytes bytes) : bytes_(bytes) {}
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header();
  /// Fills `out`, [height, width, output_components()].
  bool read_pixels(std::uint8_t* out);

  input::ImageSize size() const { return {info_.image_height, info_.image_width}; }
  int num_components() const { return info_.num_components; }
  int precision() const { return info_.data_precision; }
  jpeg_saved_marker_ptr markers() const { return info_.marker_list; }
  const char* message() const { return message_; }

 private:
  static JpegReader& self(j_common_ptr info) { return *static_cast<JpegReader*>(info->client_data); }
  static void on_error(j_common_ptr info);
  static void on_message(j_common_ptr, int) {}
  static void on_output(j_common_ptr) {}
  static void on_progress(j_common_ptr info);
  static void on_source(j_decompress_ptr) {}
  static boolean on_end_of_data(j_decompress_ptr info);
  static void on_skip(j_decompress_ptr info, long count);
  void connect();
  [[noreturn]] void fail(const char* message);

  ImageBytes bytes_;
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf on_failure_{};
  char message_[JMSG_LENGTH_MAX] = "";
};

void JpegReader::fail(const char* message) {
  std::snprintf(message_, sizeof(message_), "%s", message);
  std::longjmp(on_failure_, 1);
}

void JpegReader::on_error(j_common_ptr info) {
  info->err->format_message(info, self(info).message_);
  std::longjmp(self(info).on_failure_, 1);
}

void JpegReader::on_progress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) self(info).fail("too many scans");
}

boolean JpegReader::on_end_of_data(j_decompress_ptr info) {
  self(reinterpret_cast<j_common_ptr>(info)).fail("the file is truncated");
}

void JpegReader::on_skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<std::size_t>(count) > info->src->bytes_in_buffer) on_end_of_data(info);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}

void JpegReader::connect() {
  info_.err = jpeg_std_error(&errors_);
  errors_.error_exit = on_error;
  errors_.emit_message = on_message;
  errors_.output_message = on_output;
  info_.client_data = this;
}

bool JpegReader::read_header() {
  connect();
  if (setjmp(on_failure_) != 0) return false;
  jpeg_create_decompress(&info_);
  source_.init_source = on_source;
  source_.fill_input_buffer = on_end_of_data;
  source_.skip_input_data = on_skip;
  source_.resync_to_restart = jpeg_resync_to_restart;
  source_.term_source = on_source;
  source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes_.data());
  source_.bytes_in_buffer = bytes_.size();
  info_.src = &source_;
  progress_.progress_monitor = on_progress;
  info_.progress = &progress_;
  jpeg_save_markers(&info_, kExifMarker, 0xffff);
  jpeg_read_header(&info_, TRUE);
  return true;
}

bool JpegReader::read_pixels(std::uint8_t* out) {
  if (setjmp(on_failure_) != 0) return false;
  info_.out_color_space = info_.num_components == 1 ? JCS_GRAYSCALE : info_.num_components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_start_decompress(&info_);
  const std::size_t row_bytes = static_cast<std::size_t>(info_.output_width) * info_.output_components;
  while (info_.output_scanline < info_.output_height) {
    JSAMPROW row = out + row_bytes * info_.output_scanline;
    jpeg_read_scanlines(&info_, &row, 1);
  }
  // jpeg_finish_decompress would insist on the end marker, which Pillow does without once all rows are there.
  return true;
}

void open_jpeg(JpegReader& reader, std::string_view source) {
  if (!reader.read_header()) throw Error(source, ": bad JPEG: ", reader.message());
  const int components = reader.num_components();
  if (reader.precision() != 8 || (components != 1 && components != 3 && components != 4)) {
    throw Error(source, ": JPEG with ", components, " components of ", reader.precision(),
                " bits, expected 1, 3 or 4 of 8 bits");
  }
}

int read_orientation(jpeg_saved_marker_ptr marker) {
  constexpr std::string_view kExif("Exif\0\0", 6);
  constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  std::vector<std::byte> exif;  // may be spread over several segments
  ImageBytes xmp;
  for (; marker != nullptr; marker = marker->next) {
    const ImageBytes data(reinterpret_cast<const std::byte*>(marker->data), marker->data_length);
    const std::string_view text(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (text.starts_with(kExif)) {
      const ImageBytes part = exif.empty() ? data : data.subspan(kExif.size());
      exif.insert(exif.end(), part.begin(), part.end());
    } else if (text.starts_with(kXmp)) {
      xmp = data.subspan(kXmp.size());
    }
  }
  return choose_orientation(exif_orientation(exif), xmp_orientation(xmp));
}

std::uint8_t scale_by_byte(unsigned value, unsigned factor) {
  const unsigned product = value * factor + 128;  // value * factor / 255, rounded
  return static_cast<std::uint8_t>(((product >> 8) + product) >> 8);
}

/// Pillow takes every CMYK JPEG as inverted, as Adobe writes them: a stored byte is 255 minus the ink.
void convert_inverted_cmyk(const std::vector<std::uint8_t>& cmyk, std::vector<std::uint8_t>& rgb) {
  for (std::size_t pixel = 0; pixel < cmyk.size() / 4; ++pixel) {
    const std::uint8_t* in = cmyk.data() + 4 * pixel;
    const unsigned light = in[3];
    for (std::size_t c = 0; c < 3; ++c) {
      rgb[3 * pixel + c] = static_cast<std::uint8_t>(light - scale_by_byte(255u - in[c], light));
    }
  }
}

}  // namespace

ImageHeader read_jpeg_header(ImageBytes bytes, std::string_view source) {
  JpegReader reader(bytes);
  open_jpeg(reader, source);
  return {reader.size(), read_orientation(reader.markers())};
}

RgbImage decode_jpeg(ImageBytes bytes, const ImageHeader& header, std::string_view source) {
  JpegReader reader(bytes);
  open_jpeg(reader, source);
  const std::size_t num_pixels = static_cast<std::size_t>(header.size.height * header.size.width);
  const std::size_t components = static_cast<std::size_t>(reader.num_components());
  std::vector<std::uint8_t> stored(num_pixels * components);
  if (!reader.read_pixels(stored.data())) throw Error(source, ": bad JPEG: ", reader.message());
  RgbImage out{header.size, {}};
  if (components == 3) {
    out.pixels = std::move(stored);
    return out;
  }
  out.pixels.resize(num_pixels * 3);
  if (components == 4) {
    convert_inverted_cmyk(stored, out.pixels);
  } else {
    for (std::size_t i = 0; i < num_pixels; ++i) std::memset(out.pixels.data() + 3 * i, stored[i], 3);
  }
  return out;
}

}  // namespace bezel::data
