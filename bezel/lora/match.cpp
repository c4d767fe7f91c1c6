#include "bezel/lora/match.h"

#include <algorithm>
#include <cctype>

#include "bezel/io/key_map.h"
#include "bezel/nearest.h"

namespace bezel::lora {
namespace {}  // namespace

std::vector<std::string> spellings(const std::string& canonical, bool text_only) {
  std::vector<std::string> names = {canonical};
  std::string peft = io::peft_module_name(canonical, text_only);
  if (peft != canonical) names.push_back(std::move(peft));
  return names;
}

bool has_suffix(std::string_view name, std::string_view key) {
  if (!name.ends_with(key)) return false;
  return name.size() == key.size() || name[name.size() - key.size() - 1] == '.';
}

ModuleMatcher::ModuleMatcher(const ModulePattern& pattern, std::string_view key) : pattern_(pattern) {
  if (pattern.kind == ModulePattern::Kind::kRegex) regex_.emplace(pattern.regex, key);
}

bool ModuleMatcher::matches(const std::vector<std::string>& module_spellings) const {
  const auto matches_one = [&](const std::string& name) {
    switch (pattern_.kind) {
      case ModulePattern::Kind::kDefault:
        return false;
      case ModulePattern::Kind::kNames:
        return std::ranges::any_of(pattern_.names, [&](const std::string& key) { return has_suffix(name, key); });
      case ModulePattern::Kind::kRegex:
        return regex_->matches(name);
      case ModulePattern::Kind::kAllLinear:
        return true;
    }
    return false;
  };
  return std::ranges::any_of(module_spellings, matches_one);
}

bool is_plain(std::string_view pattern) {
  return std::ranges::all_of(pattern, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.'; });
}

bool matches_plain(std::string_view name, std::string_view pattern) {
  if (name.size() < pattern.size()) return false;
  const std::size_t begin = name.size() - pattern.size();
  if (begin > 0 && name[begin - 1] != '.') return false;
  for (std::size_t i = 0; i < pattern.size(); ++i)
    if (pattern[i] != '.' && pattern[i] != name[begin + i]) return false;
  return true;
}

std::vector<std::string> nearest_names(std::string_view name, std::vector<std::string> candidates, std::size_t count) {
  std::ranges::sort(candidates);
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::ranges::stable_sort(candidates, {}, [&](const std::string& other) { return edit_distance(name, other); });
  if (candidates.size() > count) candidates.resize(count);
  return candidates;
}

}  // namespace bezel::lora
