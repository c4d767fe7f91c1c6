#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/io/pattern.h"
#include "bezel/lora/config.h"

namespace bezel::lora {

/// Every spelling under which a module may be asked for: canonical, and PEFT's where it differs.
std::vector<std::string> spellings(const std::string& canonical, bool text_only);
/// The same for both classes of the model.
std::vector<std::string> all_spellings(const std::string& canonical);

/// A ModulePattern made ready for asking. kDefault matches nothing.
class ModuleMatcher {
 public:
  ModuleMatcher(const ModulePattern& pattern, std::string_view key);
  /// target_modules of a config, inside its layers_to_transform.
  explicit ModuleMatcher(const LoraConfig& config);

  /// Whether any of a module's spellings matches, as PEFT matches. all-linear matches everything. A whole name counts
  /// whatever its layer.
  bool matches(const std::vector<std::string>& module_spellings) const;
  /// Whether a module is in one of the layers_to_transform; always without them.
  bool is_in_layers(const std::vector<std::string>& module_spellings) const;

 private:
  bool is_in_layers(const std::string& name) const;

  ModulePattern pattern_;
  std::optional<io::Pattern> regex_;
  std::vector<std::int64_t> layers_;
  std::vector<io::Pattern> layers_patterns_;
};

/// The number of the layer that a module is in, as PEFT finds it: the first part that is a number and has two parts
/// before it; with `before`, the first after a name that ends with one of these. Nothing where there is no number.
std::optional<std::int64_t> layer_number(std::string_view module, const std::vector<io::Pattern>& before);

/// Whether `name` is `key`, or ends in "." and `key`.
bool has_suffix(std::string_view name, std::string_view key);
/// Whether one of a module's spellings is, or ends so.
bool is_called(const std::vector<std::string>& module_spellings, std::string_view key);
/// Whether it is called by one of `keys`.
bool is_called_any(const std::vector<std::string>& module_spellings, const std::vector<std::string>& keys);

/// Whether a pattern holds letters, digits, '_' and '.' only: of those there may be one for each layer.
bool is_plain(std::string_view pattern);
/// Whether whole dotted parts at the end of `name` match a plain pattern, in which '.' is any character.
bool matches_plain(std::string_view name, std::string_view pattern);

/// rank_pattern or alpha_pattern made ready for asking.
template <typename Value>
class PatternTable {
 public:
  PatternTable(const std::vector<std::pair<std::string, Value>>& entries, std::string_view key) {
    for (const auto& [pattern, value] : entries) {
      entries_.push_back({pattern, std::nullopt, value});
      if (!is_plain(pattern)) entries_.back().regex.emplace("(.*\\.)?(" + pattern + ")", key);
    }
  }

  /// Value of the first entry that matches PEFT's spelling (the last one), else of the first that matches another, else
  /// `fallback`.
  Value find(const std::vector<std::string>& module_spellings, Value fallback) const {
    for (auto name = module_spellings.rbegin(); name != module_spellings.rend(); ++name)
      for (const Entry& entry : entries_)
        if (entry.regex ? entry.regex->matches(*name) : matches_plain(*name, entry.plain)) return entry.value;
    return fallback;
  }

 private:
  struct Entry {
    std::string plain;
    std::optional<io::Pattern> regex;  // where it is not plain
    Value value;
  };

  std::vector<Entry> entries_;
};

/// The up to `count` of `candidates` nearest to `name` by edit distance, nearest first.
std::vector<std::string> nearest_names(std::string_view name, std::vector<std::string> candidates, std::size_t count);

}  // namespace bezel::lora
