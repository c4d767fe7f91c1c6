#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::data {

/// Replaces every occurrence of one string by another (a tokenizer's normalizer or a step of its decoder).
struct Replace {
  std::string pattern;  ///< not empty
  std::string content;

  /// `text` after the replacement; where `edits` is given, it receives the offset in `text` of each occurrence. Throws
  /// Error when replacing makes more than `max_bytes`.
  std::string apply(std::string_view text, std::size_t max_bytes, std::vector<std::size_t>* edits = nullptr) const;
};

/// Translates offsets in a text made by Replace::apply back to offsets in the text it was made from. Offsets must be
/// asked for in rising order.
class OffsetMap {
 public:
  OffsetMap(const Replace& step, const std::vector<std::size_t>& edits) : step_(step), edits_(edits) {}

  /// Where a token that begins (or ends) at `at` begins (or ends); inside a replacement the whole pattern is meant.
  std::size_t begin(std::size_t at) { return map(at, false); }
  std::size_t end(std::size_t at) { return map(at, true); }

 private:
  std::size_t map(std::size_t at, bool is_end);

  const Replace& step_;
  const std::vector<std::size_t>& edits_;
  std::size_t next_ = 0;  // the first edit that does not end before the last requested offset
};

}  // namespace bezel::data
