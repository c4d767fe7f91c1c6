#pragma once

#include <regex>
#include <string>
#include <string_view>

#include "bezel/error.h"

namespace bezel::io {

/// A Python regular expression that may come from a stranger, such as those of adapter_config.json: compiled and
/// matched in bounded time and memory, whatever it is.
class Pattern {
 public:
  /// Named groups and \A, \Z are rewritten to ECMAScript's form. Throws Error of that kind, with `key` for the setting,
  /// on what that lacks (inline flags, look-behind, references), and on patterns of more than 8192 characters, repeats
  /// written out, or 32 groups inside each other.
  Pattern(const std::string& python, std::string_view key, ErrorKind kind = ErrorKind::kConfig);

  /// Whether all of `text` matches, as re.fullmatch.
  bool matches(std::string_view text) const;
  /// Whether `text` begins with a match, as re.match.
  bool matches_begin(std::string_view text) const;

 private:
  std::regex regex_;
};

}  // namespace bezel::io
