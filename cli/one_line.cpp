#include "cli/one_line.h"

#include <cstdio>

namespace bezel::cli {

std::string one_line(const std::string& text) {
  // A recipe of another tool may have dozens of keys to tell of.
  constexpr std::size_t kMaxBytes = 16000;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (out.size() >= kMaxBytes) return out + " …";
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters too, and two bytes each in UTF-8.
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
    const bool is_c1 = byte == 0xC2 && next >= 0x80 && next < 0xA0;
    if (byte >= 0x20 && byte != 0x7F && !is_c1) {
      out += text[i];
      continue;
    }
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02x", is_c1 ? static_cast<unsigned char>(text[++i]) : byte);
    out += code;
  }
  return out;
}

}  // namespace bezel::cli
