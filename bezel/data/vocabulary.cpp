#include "bezel/data/vocabulary.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

namespace bezel::data {
namespace {

std::uint64_t hash_of(std::string_view word) { return std::hash<std::string_view>{}(word); }

}  // namespace

void Vocabulary::reserve(std::size_t count, std::size_t bytes) {
  text_.reserve(bytes);
  ends_.reserve(count);
  grow(std::bit_ceil(2 * count + 16));
}

bool Vocabulary::add(std::string_view word) {
  if (2 * (size() + 1) > slots_.size()) grow(2 * std::max<std::size_t>(slots_.size(), 16));
  const std::uint64_t hash = hash_of(word);
  Slot& slot = slots_[slot_of(word, hash)];
  if (slot.id >= 0) return false;
  slot = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::int32_t>(size()),
          static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(word.size())};
  text_.append(word);
  ends_.push_back(text_.size());
  return true;
}

std::int32_t Vocabulary::find(std::string_view word) const {
  if (slots_.empty()) return -1;
  return slots_[slot_of(word, hash_of(word))].id;
}

std::string_view Vocabulary::word(std::size_t id) const {
  const std::size_t begin = id == 0 ? 0 : ends_[id - 1];
  return std::string_view(text_).substr(begin, ends_[id] - begin);
}

std::size_t Vocabulary::slot_of(std::string_view word, std::uint64_t hash) const {
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  std::size_t at = hash & (slots_.size() - 1);
  for (; slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.hash == tag && std::string_view(text_).substr(slot.begin, slot.bytes) == word) break;
  }
  return at;
}

void Vocabulary::grow(std::size_t slots) {
  if (slots <= slots_.size()) return;
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    const std::string_view word = std::string_view(text_).substr(slot.begin, slot.bytes);
    slots_[slot_of(word, hash_of(word))] = slot;
  }
}

}  // namespace bezel::data
