#include <memory>

#include <webp/decode.h>
#include <webp/demux.h>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

WebPData as_webp(ImageBytes bytes) { return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

using Demuxer = std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)>;

/// Body of the first chunk of that name, which lives as long as the file's bytes.
ImageBytes find_chunk(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator chunk;
  ImageBytes body;
  if (WebPDemuxGetChunk(demuxer, name, 1, &chunk) != 0) {
    body = {reinterpret_cast<const std::byte*>(chunk.chunk.bytes), chunk.chunk.size};
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return body;
}

}  // namespace

ImageHeader read_webp_header(ImageBytes bytes, std::string_view source) {
  const WebPData data = as_webp(bytes);
  const Demuxer demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (!demuxer) throw Error(source, ": bad or truncated WebP (", bytes.size(), " bytes)");
  const input::ImageSize size{WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT),
                              WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH)};
  const auto exif = exif_orientation(find_chunk(demuxer.get(), "EXIF"));
  return {size, choose_orientation(exif, xmp_orientation(find_chunk(demuxer.get(), "XMP ")))};
}

// The first frame on black. libwebp's decoder of animations gives the same, and needs eight bytes more a pixel.
RgbImage decode_webp(ImageBytes bytes, const ImageHeader& header, std::string_view source) {
  const auto fail = [&] { throw Error(source, ": bad or truncated WebP (", bytes.size(), " bytes)"); };
  const WebPData data = as_webp(bytes);
  const Demuxer demuxer(WebPDemux(&data), WebPDemuxDelete);
  WebPIterator frame;
  if (!demuxer || WebPDemuxGetFrame(demuxer.get(), 1, &frame) == 0) fail();
  const std::unique_ptr<WebPIterator, decltype(&WebPDemuxReleaseIterator)> released(&frame, WebPDemuxReleaseIterator);
  const input::ImageSize& size = header.size;
  const bool fits = frame.x_offset >= 0 && frame.y_offset >= 0 && frame.width <= size.width - frame.x_offset &&
                    frame.height <= size.height - frame.y_offset;
  if (!fits || frame.complete == 0) fail();
  RgbImage out{size, {}};
  out.pixels.resize(static_cast<std::size_t>(size.height * size.width * 3));
  const std::int64_t begin = 3 * (frame.y_offset * size.width + frame.x_offset);
  const std::uint8_t* const decoded =
      WebPDecodeRGBInto(frame.fragment.bytes, frame.fragment.size, out.pixels.data() + begin,
                        out.pixels.size() - static_cast<std::size_t>(begin), static_cast<int>(3 * size.width));
  if (decoded == nullptr) fail();
  return out;
}

}  // namespace bezel::data
