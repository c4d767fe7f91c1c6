#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace bezel::data {

/// Finds tokens that are cut out of text before it is split any further: the leftmost, and of those the longest.
class AddedTokenMatcher {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = -1;  ///< -1 when nothing was found; begin and end are then the text's size
  };

  void add(std::string_view content, std::int32_t id);
  bool empty() const { return nodes_.size() == 1; }
  /// The first match that begins at `from` or later.
  Match find(std::string_view text, std::size_t from) const;

 private:
  struct Node {
    std::int32_t id = -1;
    std::vector<std::pair<char, std::uint32_t>> children;
  };

  std::uint32_t child(std::uint32_t node, char byte) const;  // 0 when there is none

  std::vector<Node> nodes_{1};
  std::bitset<256> first_bytes_;
};

}  // namespace bezel::data
