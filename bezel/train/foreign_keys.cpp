#include "bezel/train/foreign_keys.h"

#include <algorithm>

namespace bezel::train {
namespace {

bool is_listed(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(' '));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    if (item.ends_with('*') ? word.starts_with(item.substr(0, item.size() - 1)) : item == word) return true;
  }
  return false;
}

bool has_only(std::string_view list, const ConfigValue& value) {
  const auto is_fine = [&](const ConfigValue& item) { return item.is_empty() || has_only(list, item); };
  if (value.kind == ConfigValue::Kind::kList) return std::ranges::all_of(value.items, is_fine);
  if (value.kind == ConfigValue::Kind::kMap)
    return std::ranges::all_of(value.members, [&](const ConfigMember& member) { return is_fine(member.value); });
  return is_listed(list, value.lower_text());
}

}  // namespace

const ForeignKey* find_foreign_key(std::string_view name) {
  for (const ForeignKey& key : foreign_keys())
    if (is_listed(key.names, name)) return &key;
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
