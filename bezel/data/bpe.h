#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "bezel/data/vocabulary.h"

namespace bezel::data {

/// A token and the bytes of the text it came from.
struct BpeToken {
  std::int32_t id = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Two neighboring tokens and the one they become.
struct BpeMerge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
};

/// What to do with characters that are no word of the vocabulary.
struct BpeFallback {
  std::array<std::int32_t, 256> byte_ids{};  ///< "<0x00>".."<0xFF>"
  bool use_bytes = false;
  bool fuse_unknown = false;     ///< a run of unknown characters becomes one token
  std::int32_t unknown_id = -1;  ///< must be set when use_bytes is not
};

/// Byte-pair encoding: starts from characters and merges neighbors, the lowest rank first, the leftmost of equal ones.
class Bpe {
 public:
  Bpe() = default;
  /// `merges` in order of rank; of a repeated pair the last one counts.
  Bpe(const Vocabulary& words, const std::vector<BpeMerge>& merges, const BpeFallback& fallback);

  /// Appends the tokens of well-formed UTF-8 `text`, shorter than 4 GiB, to `out`. O(n log n).
  void encode(std::string_view text, std::vector<BpeToken>& out) const;

 private:
  struct Pair {
    std::uint64_t key = kNoPair;
    std::uint32_t rank = kNoRank;
    std::int32_t merged = -1;
  };
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

  void add_pair(const BpeMerge& merge, std::uint32_t rank);
  void add_joint(const Vocabulary& words, const BpeMerge& merge);
  bool may_join(std::int32_t left, std::int32_t right) const;
  const Pair& find_pair(std::int32_t left, std::int32_t right) const;
  void split_characters(std::string_view text, std::vector<BpeToken>& out) const;
  std::size_t merge_short(BpeToken* tokens, std::size_t count) const;
  std::size_t merge_long(BpeToken* tokens, std::size_t count) const;

  std::vector<std::int32_t> char_ids_;  // by code point, -1 where the vocabulary has no such word
  std::vector<Pair> pairs_;             // open addressing
  std::vector<std::uint64_t> joints_;   // bit set by hash of the characters on both sides of a merge
  BpeFallback fallback_;
};

}  // namespace bezel::data
