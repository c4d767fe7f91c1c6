#include "bezel/data/av_rgb.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "bezel/data/av_library.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

struct FreeScaler {
  void operator()(SwsContext* scaler) const { av().sws_freeContext(scaler); }
};

// swscale's vector code writes past the end of a row.
constexpr std::size_t kRowAlign = 64;

void set_colors(SwsContext* scaler, const AVFrame& frame) {
  int *inverse = nullptr, *table = nullptr;
  int from_range = 0, to_range = 0, brightness = 0, contrast = 0, saturation = 0;
  // Fails for formats that are RGB already, which have nothing to set.
  if (av().sws_getColorspaceDetails(scaler, &inverse, &from_range, &table, &to_range, &brightness, &contrast,
                                    &saturation) < 0)
    return;
  if (frame.color_range == AVCOL_RANGE_JPEG) from_range = 1;
  const int* matrix = av().sws_getCoefficients(frame.colorspace);
  av().sws_setColorspaceDetails(scaler, matrix, from_range, matrix, to_range, brightness, contrast, saturation);
}

}  // namespace

RgbImage to_rgb(const AVFrame& frame, const std::string& name) {
  const int width = frame.width, height = frame.height;
  const auto format = static_cast<AVPixelFormat>(frame.format);
  const std::unique_ptr<SwsContext, FreeScaler> scaler(av().sws_getContext(
      width, height, format, width, height, AV_PIX_FMT_RGB24, SWS_BICUBIC, nullptr, nullptr, nullptr));
  const char* form = av().av_get_pix_fmt_name(format);
  if (!scaler) throw Error(name, ": frames of the pixel format '", form == nullptr ? "?" : form, "' are not read");
  set_colors(scaler.get(), frame);
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(width);
  const std::size_t stride = (row_bytes + kRowAlign - 1) / kRowAlign * kRowAlign + kRowAlign;
  std::vector<std::uint8_t> rows(stride * static_cast<std::size_t>(height) + kRowAlign);
  std::uint8_t* const planes[] = {rows.data(), nullptr, nullptr, nullptr};
  const int strides[] = {static_cast<int>(stride), 0, 0, 0};
  if (av().sws_scale(scaler.get(), frame.data, frame.linesize, 0, height, planes, strides) != height)
    throw Error(name, ": a frame could not be brought to RGB");
  RgbImage image{.size = {height, width},
                 .pixels = std::vector<std::uint8_t>(row_bytes * static_cast<std::size_t>(height))};
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y)
    std::copy_n(rows.data() + y * stride, row_bytes, image.pixels.data() + y * row_bytes);
  return image;
}

}  // namespace bezel::data
