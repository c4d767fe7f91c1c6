#include "bezel/data/added_tokens.h"

namespace bezel::data {

std::uint32_t AddedTokenMatcher::child(std::uint32_t node, char byte) const {
  for (const auto& [edge, target] : nodes_[node].children)
    if (edge == byte) return target;
  return 0;
}

void AddedTokenMatcher::add(std::string_view content, std::int32_t id) {
  if (content.empty()) return;
  first_bytes_.set(static_cast<unsigned char>(content[0]));
  std::uint32_t node = 0;
  for (const char byte : content) {
    std::uint32_t target = child(node, byte);
    if (target == 0) {
      target = static_cast<std::uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, target);
      nodes_.emplace_back();
    }
    node = target;
  }
  nodes_[node].id = id;
}

AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!first_bytes_.test(static_cast<unsigned char>(text[begin]))) continue;
    Match match;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size() && (node = child(node, text[at])) != 0; ++at)
      if (nodes_[node].id >= 0) match = {begin, at + 1, nodes_[node].id};
    if (match.id >= 0) return match;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace bezel::data
