#include "support/media_files.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>
#include <zlib.h>

namespace bezel::test {

std::string png_chunk(const std::string& type, const std::string& body) {
  const std::string named = type + body;
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(named.data()), static_cast<uInt>(named.size()));
  return big_endian(body.size(), 4) + named + big_endian(crc, 4);
}

std::string make_png(const PngParts& parts) {
  std::string packed(compressBound(parts.rows.size()), '\0');
  uLongf packed_bytes = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &packed_bytes, reinterpret_cast<const Bytef*>(parts.rows.data()),
           parts.rows.size());
  packed.resize(packed_bytes);
  const std::string header = big_endian(parts.width, 4) + big_endian(parts.height, 4) + big_endian(parts.bits, 1) +
                             big_endian(parts.color, 1) + std::string(3, '\0');
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + parts.before_data + png_chunk("IDAT", packed) +
         parts.after_data + png_chunk("IEND", "");
}

std::string make_jpeg(int width, int height, int components, const std::vector<std::uint8_t>& pixels,
                      const std::string& exif) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long out_bytes = 0;
  jpeg_mem_dest(&info, &out, &out_bytes);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = components;
  info.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 100, TRUE);
  for (int c = 0; c < info.num_components; ++c) info.comp_info[c].h_samp_factor = info.comp_info[c].v_samp_factor = 1;
  jpeg_start_compress(&info, TRUE);
  if (!exif.empty()) {
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()),
                      static_cast<unsigned>(exif.size()));
  }
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(pixels.data() + static_cast<std::size_t>(info.next_scanline) * width * components);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<const char*>(out), out_bytes);
  jpeg_destroy_compress(&info);
  std::free(out);
  return bytes;
}

std::string make_exif(int orientation, bool big_endian_order) {
  const auto number = [&](std::uint64_t v, int width) {
    return big_endian_order ? big_endian(v, width) : little_endian(v, width);
  };
  constexpr int kShort = 3;
  return std::string("Exif\0\0", 6) + (big_endian_order ? "MM" : "II") + number(42, 2) + number(8, 4) + number(1, 2) +
         number(274, 2) + number(kShort, 2) + number(1, 4) + number(orientation, 2) + number(0, 2) + number(0, 4);
}

std::string make_wav(int format, int channels, std::uint32_t rate, int bits, const std::string& data,
                     std::uint32_t claimed_bytes) {
  const std::uint32_t data_bytes = claimed_bytes != 0 ? claimed_bytes : static_cast<std::uint32_t>(data.size());
  const int frame_bytes = channels * bits / 8;
  return "RIFF" + little_endian(data_bytes + 36u, 4) + "WAVEfmt " + little_endian(16, 4) + little_endian(format, 2) +
         little_endian(channels, 2) + little_endian(rate, 4) +
         little_endian(static_cast<std::uint64_t>(rate) * frame_bytes, 4) + little_endian(frame_bytes, 2) +
         little_endian(bits, 2) + "data" + little_endian(data_bytes, 4) + data;
}

std::string pcm16(const std::vector<std::int16_t>& samples) {
  return {reinterpret_cast<const char*>(samples.data()), samples.size() * sizeof(samples[0])};
}

std::string float32(const std::vector<float>& samples) {
  return {reinterpret_cast<const char*>(samples.data()), samples.size() * sizeof(samples[0])};
}

}  // namespace bezel::test
