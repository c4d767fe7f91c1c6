#include "bezel/lora/match.h"

#include <algorithm>
#include <numeric>

#include "bezel/error.h"
#include "bezel/io/key_map.h"

namespace bezel::lora {
namespace {

[[noreturn]] void refuse(std::string_view key, const std::string& pattern, std::string_view reason) {
  throw Error(ErrorKind::kConfig, key, ": regex '", pattern, "': ", reason);
}

bool starts_at(const std::string& text, std::size_t at, std::string_view word) {
  return text.compare(at, word.size(), word) == 0;
}

// What opens at `at`, a "(?": how many characters to leave out of the ECMAScript form.
std::size_t group_head(const std::string& pattern, std::size_t at, std::string_view key) {
  if (starts_at(pattern, at, "(?:") || starts_at(pattern, at, "(?=") || starts_at(pattern, at, "(?!")) return 0;
  if (starts_at(pattern, at, "(?P<")) {
    const std::size_t end = pattern.find('>', at);
    if (end == std::string::npos) refuse(key, pattern, "a group name has no end");
    return end - at;
  }
  if (starts_at(pattern, at, "(?<")) refuse(key, pattern, "look-behind is not supported");
  if (starts_at(pattern, at, "(?P=")) refuse(key, pattern, "references by name are not supported");
  refuse(key, pattern, "inline flags and other groups that begin with '(?' are not supported");
}

std::string to_ecmascript(const std::string& pattern, std::string_view key) {
  std::string out;
  bool in_set = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 'A' || next == 'Z') {
        out += next == 'A' ? '^' : '$';
      } else {
        out += {c, next};
      }
      continue;
    }
    if (in_set) {
      in_set = c != ']';
    } else if (c == '[') {
      in_set = true;
    } else if (starts_at(pattern, i, "(?")) {
      i += group_head(pattern, i, key);  // a named group: on to the end of its name
    }
    out += c;
  }
  return out;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::regex compile_regex(const std::string& pattern, std::string_view key) {
  try {
    return std::regex(to_ecmascript(pattern, key), std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    refuse(key, pattern, error.what());
  }
}

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
  if (pattern.kind == ModulePattern::Kind::kRegex) regex_ = compile_regex(pattern.regex, key);
}

bool ModuleMatcher::matches(const std::vector<std::string>& module_spellings) const {
  const auto matches_one = [&](const std::string& name) {
    switch (pattern_.kind) {
      case ModulePattern::Kind::kDefault:
        return false;
      case ModulePattern::Kind::kNames:
        return std::ranges::any_of(pattern_.names, [&](const std::string& key) { return has_suffix(name, key); });
      case ModulePattern::Kind::kRegex:
        return std::regex_match(name, *regex_);
      case ModulePattern::Kind::kAllLinear:
        return true;
    }
    return false;
  };
  return std::ranges::any_of(module_spellings, matches_one);
}

std::vector<std::string> nearest_names(std::string_view name, std::vector<std::string> candidates, std::size_t count) {
  std::ranges::sort(candidates);
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::ranges::stable_sort(candidates, {}, [&](const std::string& other) { return edit_distance(name, other); });
  if (candidates.size() > count) candidates.resize(count);
  return candidates;
}

}  // namespace bezel::lora
