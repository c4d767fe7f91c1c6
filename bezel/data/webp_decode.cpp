#include <cstring>
#include <memory>

#include <webp/decode.h>
#include <webp/demux.h>

#include "bezel/data/image_codecs.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

WebPData as_webp(ImageBytes bytes) { return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

using Demuxer = std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)>;
using AnimDecoder = std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)>;

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
  const gemma4::ImageSize size{WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT),
                               WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH)};
  const auto exif = exif_orientation(find_chunk(demuxer.get(), "EXIF"));
  return {size, choose_orientation(exif, xmp_orientation(find_chunk(demuxer.get(), "XMP ")))};
}

RgbImage decode_webp(ImageBytes bytes, const ImageHeader& header, std::string_view source) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) throw Error(source, ": the WebP library has another version");
  options.color_mode = MODE_RGBA;
  const WebPData data = as_webp(bytes);
  const AnimDecoder decoder(WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  std::uint8_t* rgba = nullptr;  // owned by the decoder
  int timestamp_ms = 0;
  if (!decoder || WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp_ms) == 0) {
    throw Error(source, ": bad or truncated WebP (", bytes.size(), " bytes)");
  }
  RgbImage out{header.size, {}};
  const std::size_t num_pixels = static_cast<std::size_t>(header.size.height * header.size.width);
  out.pixels.resize(num_pixels * 3);
  for (std::size_t i = 0; i < num_pixels; ++i) std::memcpy(out.pixels.data() + 3 * i, rgba + 4 * i, 3);
  return out;
}

}  // namespace bezel::data
