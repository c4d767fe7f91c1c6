#include "bezel/train/foreign_keys.h"

#include <algorithm>

#include "bezel/train/word_list.h"

namespace bezel::train {
namespace {

// Whether `word` is one of the list's, or begins as one of them that ends in '*'.
bool is_matched(std::string_view list, std::string_view word) {
  return std::ranges::any_of(words_of(list), [&](std::string_view item) {
    return item.ends_with('*') ? word.starts_with(item.substr(0, item.size() - 1)) : item == word;
  });
}

bool has_only(std::string_view list, const ConfigValue& value) {
  const auto is_fine = [&](const ConfigValue& item) { return item.is_empty() || has_only(list, item); };
  if (value.kind == ConfigValue::Kind::kList) return std::ranges::all_of(value.items, is_fine);
  if (value.kind == ConfigValue::Kind::kMap)
    return std::ranges::all_of(value.members, [&](const ConfigMember& member) { return is_fine(member.value); });
  return is_matched(list, value.lower_text());
}

}  // namespace

const ForeignKey* find_foreign_key(std::string_view name) {
  for (const ForeignKey& key : foreign_keys())
    if (is_matched(key.names, name)) return &key;
  return nullptr;
}

bool accepts(const ForeignKey& key, const ConfigValue& value) {
  switch (key.effect) {
    case ForeignEffect::kIgnored:
    case ForeignEffect::kNoted:
      return true;
    case ForeignEffect::kOff:
      return value.is_off() || has_only(key.accepted, value);
    case ForeignEffect::kOnly:
      break;
  }
  return has_only(key.accepted, value);
}

}  // namespace bezel::train
