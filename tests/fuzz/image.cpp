// Images: JPEG, PNG, WebP, GIF and BMP, with EXIF. TIFF has a target of its own, tiff.cpp.
#include "bezel/data/image_decode.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

// Larger ones are allowed and take time, which tells nothing new.
constexpr std::int64_t kMaxPixels = 1 << 20;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = fuzz::as_bytes(data, size);
  const auto probed = fuzz::accepted([&] { return data::probe_image_size(bytes, "input"); });
  if (probed) {
    fuzz::require(probed->height > 0 && probed->width > 0);
    fuzz::require(probed->width <= data::kMaxImagePixels / probed->height);
    if (probed->height * probed->width > kMaxPixels) return 0;
  }
  const auto image = fuzz::accepted([&] { return data::decode_rgb(bytes, "input"); });
  if (!image) return 0;
  fuzz::require(probed && image->size.height == probed->height && image->size.width == probed->width);
  fuzz::require(image->pixels.size() == static_cast<std::size_t>(3 * probed->height * probed->width));
  return 0;
}
