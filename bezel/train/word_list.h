#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace bezel::train {

/// The words of a list in one text, with single spaces between them, as the tables of keys write names.
inline std::vector<std::string_view> words_of(std::string_view list) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(' ', begin), list.size());
    words.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// Whether `word` is in such a list.
inline bool is_listed(std::string_view list, std::string_view word) {
  return std::ranges::count(words_of(list), word) > 0;
}

}  // namespace bezel::train
