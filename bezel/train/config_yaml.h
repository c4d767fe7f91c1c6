#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::train {

struct ConfigMember;

/// A value of a training config: YAML, or the text after a flag.
struct ConfigValue {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string text;   ///< of a scalar
  std::string where;  ///< of the key: "config.yaml:12" or "--lora-r"
  std::string key;
  std::vector<ConfigValue> items;
  std::vector<ConfigMember> members;

  /// Typed reading; each throws Error (kConfig) naming place, key, value and what was expected. Numbers and booleans
  /// may be quoted, since many tools write them so.
  std::string as_text() const;
  std::int64_t as_whole() const;
  double as_number() const;
  bool as_bool() const;
  /// A list of texts, or one text with commas.
  std::vector<std::string> as_texts() const;

  /// Whether the key has no value: nothing, null, "" or Python's None.
  bool is_empty() const;
  /// Whether the value turns something off: false, no, off, 0, none, or an empty list or map.
  bool is_off() const;
  /// The value in lower case; "" unless it is a scalar.
  std::string lower_text() const;

  [[noreturn]] void fail(std::string_view expected) const;
};

struct ConfigMember {
  std::string name;
  ConfigValue value;
};

/// Parses one YAML document that is a map (or empty). `source` is the file's name in errors.
/// Throws Error (kConfig) on syntax errors, aliases, more than 1 MB, nesting deeper than 8, several documents,
/// and a key given twice in one map.
ConfigValue parse_config_yaml(std::string_view text, const std::string& source);

/// The text after a flag: "[…]" and "{…}" are YAML, all else is a scalar as it stands ("null": the default).
ConfigValue parse_flag_value(const std::string& key, const std::string& flag, const std::string& text);

}  // namespace bezel::train
