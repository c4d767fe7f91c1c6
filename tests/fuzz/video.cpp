// Video files: MP4, WebM, GIF and what else FFmpeg's demuxers take them for.
#include <cmath>
#include <vector>

#include "bezel/data/video_decode.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

// Larger ones are allowed and take time, which tells nothing new.
constexpr std::int64_t kMaxPixels = 1 << 18;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const data::MediaFile file{.path = "", .bytes = fuzz::as_text(data, size), .name = "input"};
  fuzz::accepted([&] {
    data::VideoReader reader(file);
    const data::VideoInfo& info = reader.info();
    fuzz::require(info.num_frames > 0 && info.num_frames <= data::kMaxVideoFrames);
    fuzz::require(std::isfinite(info.fps) && info.fps > 0);
    fuzz::require(info.size.height > 0 && info.size.width <= data::kMaxFramePixels / info.size.height);
    if (info.size.height * info.size.width > kMaxPixels) return 0;
    const std::vector<std::int64_t> indices = {0, info.num_frames / 2, info.num_frames - 1};
    reader.decode(indices, [&](const data::RgbImage& frame) {
      fuzz::require(frame.size == info.size);
      fuzz::require(frame.pixels.size() == static_cast<std::size_t>(3 * info.size.height * info.size.width));
    });
    return 0;
  });
  return 0;
}
