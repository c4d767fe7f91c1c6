#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace bezel::jinja {

/// Characters first, first + stride, ..., last. Tables are in rising order of `first`.
struct CodeRun {
  std::uint32_t first, last, stride;
};

/// Characters that are mapped to themselves plus `delta`.
struct CaseRun {
  std::uint32_t first, last, stride;
  std::int32_t delta;
};

/// A character and the UTF-8 that it is mapped to.
struct SpecialCase {
  std::uint32_t code;
  std::string_view text;
};

std::span<const CodeRun> unprintable_table();  ///< str.isprintable() is false
std::span<const CodeRun> lowercase_table();
std::span<const CodeRun> uppercase_table();
std::span<const CodeRun> titlecase_table();
std::span<const CodeRun> ignorable_table();  ///< characters inside a word that the rule of the final sigma passes over
std::span<const CaseRun> to_lower_table();
std::span<const CaseRun> to_upper_table();
std::span<const SpecialCase> special_upper_table();  ///< upper case of more than one character
std::span<const SpecialCase> special_title_table();  ///< title case that differs from upper case

}  // namespace bezel::jinja
