#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bezel::jinja {

/// A code point and the bytes of its UTF-8; bytes is 0 where the text is malformed or ends.
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 0;
};

CodePoint code_point_at(std::string_view text, std::size_t at);

void append_utf8(std::string& out, std::uint32_t value);

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Whether Python's str.isspace() holds for the character.
bool is_space(std::uint32_t value);

/// Offset of the first character at or after `at` that is not white space.
std::size_t skip_space(std::string_view text, std::size_t at);

/// Bytes of `text` without its trailing white space.
std::size_t size_without_trailing_space(std::string_view text);

/// Value of a Python string literal's inside; throws Error with what is wrong, without a place.
std::string unescape(std::string_view literal);

}  // namespace bezel::jinja
