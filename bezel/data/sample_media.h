#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/sample_text.h"
#include "bezel/input/media_kind.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// Fills sample.media from the media parts of `messages` (may be null) and the lists `images`, `audios` and `videos` of
/// `line`; sample.text must be rendered already. Throws Error when their number is not that of the placeholders in the
/// text.
void collect_media(const io::JsonView& line, const io::Json* messages, SampleText& sample);

/// Number of occurrences of the placeholder `part` in `text`.
std::size_t count_of(std::string_view text, std::string_view part);

/// A placeholder in a text.
struct Placeholder {
  MediaKind kind = MediaKind::kImage;
  std::size_t begin = 0;
};

/// The first placeholder of any kind at `begin` or behind it.
std::optional<Placeholder> next_placeholder(std::string_view text, std::size_t begin);

/// Items given kind by kind, each kind in the order of its placeholders, in the order of all placeholders of `text`.
template <typename Item>
std::vector<Item> in_placeholder_order(std::string_view text, const input::PerKind<std::vector<Item>>& items) {
  std::vector<Item> ordered;
  input::PerKind<std::size_t> next;
  for (auto hit = next_placeholder(text, 0); hit; hit = next_placeholder(text, hit->begin + 1))
    if (next[hit->kind] < items[hit->kind].size()) ordered.push_back(items[hit->kind][next[hit->kind]++]);
  return ordered;
}

}  // namespace bezel::data
