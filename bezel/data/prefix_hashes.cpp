#include "bezel/data/prefix_hashes.h"

#include <algorithm>
#include <string>

namespace bezel::data {
namespace {

std::size_t next_length(std::size_t length) {
  if (length == 0) return 32;
  return length + std::max<std::size_t>(16, length / 8);
}

std::size_t length_at(std::size_t number) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < number; ++i) length = next_length(length);
  return length;
}

// splitmix64's step over one more value.
std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  std::uint64_t z = (hash ^ value) + 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

std::uint64_t mix(std::uint64_t hash, const std::string& text) {
  for (const char byte : text) hash = mix(hash, static_cast<unsigned char>(byte));
  return hash;
}

}  // namespace

PrefixHashes::PrefixHashes(const SampleTokens& tokens, std::span<const MediaInfo> media) {
  std::uint64_t hash = 0;
  std::size_t item = 0, rung = next_length(0);
  std::int64_t left = 0;  // soft tokens of the item
  for (std::size_t t = 0; t < tokens.input_ids.size(); ++t) {
    if (tokens.token_types[t] != 0) {
      while (left == 0 && item < media.size()) {
        if (media[item].fingerprint.empty()) return;
        hash = mix(hash, media[item].fingerprint);
        left = media[item++].soft_tokens();
      }
      --left;
    }
    hash = mix(mix(hash, static_cast<std::uint64_t>(tokens.input_ids[t])), tokens.token_types[t] != 0);
    const bool predicts = t + 1 < tokens.labels.size() && tokens.labels[t + 1] != kIgnoreLabel;
    hash = mix(hash, predicts ? static_cast<std::uint64_t>(tokens.labels[t + 1]) + 1 : 0);
    if (t + 1 < rung) continue;
    hashes_.push_back(hash);
    rung = next_length(rung);
  }
}

std::size_t PrefixHashes::common(const PrefixHashes& other) const {
  const auto until = std::ranges::mismatch(hashes_, other.hashes_).in1;
  return length_at(static_cast<std::size_t>(until - hashes_.begin()));
}

}  // namespace bezel::data
