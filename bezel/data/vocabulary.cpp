#include "bezel/data/vocabulary.h"

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
  slot = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::int32_t>(size())};
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
  std::size_t at = hash & (slots_.size() - 1);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  while (slots_[at].id >= 0 && (slots_[at].hash != tag || this->word(static_cast<std::size_t>(slots_[at].id)) != word))
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

void Vocabulary::grow(std::size_t slots) {
  if (slots <= slots_.size()) return;
  slots_.assign(slots, {});
  for (std::size_t id = 0; id < size(); ++id) {
    const std::uint64_t hash = hash_of(word(id));
    slots_[slot_of(word(id), hash)] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::int32_t>(id)};
  }
}

}  // namespace bezel::data
