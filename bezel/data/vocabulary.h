#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::data {

/// Strings numbered 0..size-1, found by string or by number. All text is stored in one block.
class Vocabulary {
 public:
  /// Reserves memory for `count` strings of `bytes` bytes together.
  void reserve(std::size_t count, std::size_t bytes);
  /// Adds `word` under the next number; false when it is already there.
  bool add(std::string_view word);
  /// The number of `word`, or -1.
  std::int32_t find(std::string_view word) const;
  std::string_view word(std::size_t id) const;
  std::size_t size() const { return ends_.size(); }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t id = -1;
    std::uint32_t begin = 0;  // of the word in text_, which stays below 4 GiB
    std::uint32_t bytes = 0;
  };

  std::size_t slot_of(std::string_view word, std::uint64_t hash) const;
  void grow(std::size_t slots);

  std::string text_;
  std::vector<std::size_t> ends_;
  std::vector<Slot> slots_;
};

}  // namespace bezel::data
