#include "bezel/lora/match.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "bezel/io/key_map.h"
#include "bezel/nearest.h"

namespace bezel::lora {
namespace {

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = error == std::errc() && end == text.data() + text.size() && text.front() != '-';
  return is_number ? std::optional(value) : std::nullopt;
}

}  // namespace

std::vector<std::string> spellings(const std::string& canonical, bool text_only) {
  std::vector<std::string> names = {canonical};
  std::string peft = io::peft_module_name(canonical, text_only);
  if (peft != canonical) names.push_back(std::move(peft));
  return names;
}

std::vector<std::string> all_spellings(const std::string& canonical) {
  std::vector<std::string> names = spellings(canonical, false);
  for (std::string& other : spellings(canonical, true))
    if (std::ranges::find(names, other) == names.end()) names.push_back(std::move(other));
  return names;
}

bool has_suffix(std::string_view name, std::string_view key) {
  if (!name.ends_with(key)) return false;
  return name.size() == key.size() || name[name.size() - key.size() - 1] == '.';
}

bool is_called(const std::vector<std::string>& module_spellings, std::string_view key) {
  return std::ranges::any_of(module_spellings, [&](const std::string& name) { return has_suffix(name, key); });
}

bool is_called_any(const std::vector<std::string>& module_spellings, const std::vector<std::string>& keys) {
  return std::ranges::any_of(keys, [&](const std::string& key) { return is_called(module_spellings, key); });
}

ModuleMatcher::ModuleMatcher(const ModulePattern& pattern, std::string_view key) : pattern_(pattern) {
  if (pattern.kind == ModulePattern::Kind::kRegex) regex_.emplace(pattern.regex, key);
}

ModuleMatcher::ModuleMatcher(const LoraConfig& config) : ModuleMatcher(config.target_modules, "target_modules") {
  layers_ = config.layers_to_transform;
  for (const std::string& pattern : config.layers_pattern)
    layers_patterns_.emplace_back("(.*\\.)?(" + pattern + ")", "layers_pattern");
}

std::optional<std::int64_t> layer_number(std::string_view module, const std::vector<io::Pattern>& before) {
  std::size_t parts = 0;
  for (std::size_t begin = 0, end = module.find('.'); end != module.npos;
       begin = end + 1, end = module.find('.', begin), ++parts) {
    if (begin == 0 || begin == end) continue;
    const auto number = whole_number(module.substr(begin, end - begin));
    if (!number || (before.empty() && parts < 2)) continue;
    const std::string name(module.substr(0, begin - 1));
    if (before.empty() || std::ranges::any_of(before, [&](const io::Pattern& p) { return p.matches(name); }))
      return number;
  }
  return std::nullopt;
}

bool ModuleMatcher::is_in_layers(const std::string& name) const {
  if (layers_.empty()) return true;
  const auto number = layer_number(name, layers_patterns_);
  return number && std::ranges::find(layers_, *number) != layers_.end();
}

bool ModuleMatcher::is_in_layers(const std::vector<std::string>& module_spellings) const {
  return std::ranges::any_of(module_spellings, [&](const std::string& name) { return is_in_layers(name); });
}

bool ModuleMatcher::matches(const std::vector<std::string>& module_spellings) const {
  const auto matches_one = [&](const std::string& name) {
    switch (pattern_.kind) {
      case ModulePattern::Kind::kDefault:
        return false;
      case ModulePattern::Kind::kNames:
        if (std::ranges::find(pattern_.names, name) != pattern_.names.end()) return true;
        return std::ranges::any_of(pattern_.names, [&](const std::string& key) { return has_suffix(name, key); }) &&
               is_in_layers(name);
      case ModulePattern::Kind::kRegex:
        return regex_->matches(name);
      case ModulePattern::Kind::kAllLinear:
        return is_in_layers(name);
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
