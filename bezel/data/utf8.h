#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace bezel::data {

/// Offset of the first byte of `text` that is no part of well-formed UTF-8 (overlong forms, surrogates and values above
/// U+10FFFF count as malformed); npos when all of it is well-formed.
std::size_t find_invalid_utf8(std::string_view text);

/// Bytes of the character whose first byte is `lead`, in well-formed text.
inline std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

/// Code point of the character at `at`, in well-formed text.
inline std::uint32_t utf8_code_point(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i])); };
  switch (utf8_length(text[at])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

/// Offset where the last character of non-empty, well-formed text begins.
inline std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace bezel::data
