#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bezel/data/media.h"
#include "bezel/data/sample_tokens.h"

namespace bezel::data {

/// What a sample begins with, so that samples can be compared without being read again: a hash of its first n tokens,
/// their labels and media, for n = 32, 48, … that grow by an eighth.
class PrefixHashes {
 public:
  PrefixHashes() = default;
  /// Ends before media inside the sample's own line, which no fingerprint stands for.
  PrefixHashes(const SampleTokens& tokens, std::span<const MediaInfo> media);

  /// How many tokens both begin alike by, or up to an eighth less; 0 below 32.
  std::size_t common(const PrefixHashes& other) const;
  /// An order in which samples that begin alike are neighbors.
  bool operator<(const PrefixHashes& other) const { return hashes_ < other.hashes_; }

 private:
  std::vector<std::uint64_t> hashes_;
};

}  // namespace bezel::data
