// Audio clips: WAV, FLAC, MP3 and OGG, and what else libsndfile takes them for.
#include <algorithm>
#include <cmath>

#include "bezel/data/audio_decode.h"
#include "bezel/data/audio_probe.h"
#include "fuzz/target.h"

namespace {

constexpr std::int64_t kMaxSamples = 16000;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace bezel;
  const auto samples =
      fuzz::accepted([&] { return data::decode_samples(fuzz::as_bytes(bytes, size), "input", kMaxSamples); });
  const auto probed =
      fuzz::accepted([&] { return data::probe_audio_bytes(fuzz::as_text(bytes, size), kMaxSamples, "input"); });
  if (!samples) return 0;
  // No bound on what is read: a damaged MP3 may hold more than its header says.
  fuzz::require(!probed || probed->samples <= kMaxSamples);
  fuzz::require(!samples->empty() && samples->size() <= static_cast<std::size_t>(kMaxSamples));
  fuzz::require(std::ranges::all_of(*samples, [](float sample) { return std::isfinite(sample); }));
  return 0;
}
