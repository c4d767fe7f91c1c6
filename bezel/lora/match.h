#pragma once

#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/lora/config.h"

namespace bezel::lora {

/// A Python regular expression as std::regex. Named groups and \A, \Z are rewritten; what ECMAScript lacks (inline
/// flags, look-behind, \g) throws Error (kConfig). `key` names the setting in errors.
std::regex compile_regex(const std::string& pattern, std::string_view key);

/// Every spelling under which a module may be asked for: canonical, and PEFT's where it differs.
std::vector<std::string> spellings(const std::string& canonical, bool text_only);

/// A ModulePattern made ready for asking. kDefault matches nothing.
class ModuleMatcher {
 public:
  ModuleMatcher(const ModulePattern& pattern, std::string_view key);

  /// Whether any of a module's spellings matches, as PEFT matches. all-linear matches everything.
  bool matches(const std::vector<std::string>& module_spellings) const;

 private:
  ModulePattern pattern_;
  std::optional<std::regex> regex_;
};

/// Whether `name` is `key`, or ends in "." and `key`.
bool has_suffix(std::string_view name, std::string_view key);

/// rank_pattern or alpha_pattern made ready for asking.
template <typename Value>
class PatternTable {
 public:
  PatternTable(const std::vector<std::pair<std::string, Value>>& entries, std::string_view key) {
    for (const auto& [pattern, value] : entries)
      entries_.emplace_back(compile_regex("(.*\\.)?(" + pattern + ")", key), value);
  }

  /// Value of the first entry that matches PEFT's spelling (the last one), else of the first that matches another, else
  /// `fallback`.
  Value find(const std::vector<std::string>& module_spellings, Value fallback) const {
    for (auto name = module_spellings.rbegin(); name != module_spellings.rend(); ++name)
      for (const auto& [regex, value] : entries_)
        if (std::regex_match(*name, regex)) return value;
    return fallback;
  }

 private:
  std::vector<std::pair<std::regex, Value>> entries_;
};

/// The up to `count` of `candidates` nearest to `name` by edit distance, nearest first.
std::vector<std::string> nearest_names(std::string_view name, std::vector<std::string> candidates, std::size_t count);

}  // namespace bezel::lora
