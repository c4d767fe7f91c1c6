#include "bezel/jinja/text.h"

#include "bezel/error.h"

namespace bezel::jinja {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::uint32_t hex_escape(std::string_view text, std::size_t& at, std::size_t digits) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < digits; ++i, ++at) {
    const int digit = at < text.size() ? hex_digit(text[at]) : -1;
    if (digit < 0) throw Error("truncated escape in a string: expected ", digits, " hexadecimal digits");
    value = value << 4 | static_cast<std::uint32_t>(digit);
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) throw Error("escape in a string is not a character");
  return value;
}

std::uint32_t octal_escape(std::string_view text, std::size_t& at) {
  std::uint32_t value = 0;
  for (int i = 0; i < 3 && at < text.size() && text[at] >= '0' && text[at] <= '7'; ++i, ++at)
    value = value * 8 + static_cast<std::uint32_t>(text[at] - '0');
  return value;
}

// jinja2 turns characters beyond ASCII into escapes before it reads escapes, so a backslash before one escapes that
// escape's backslash.
std::string escaped_name(std::uint32_t value) {
  const std::size_t digits = value < 0x100 ? 2 : value < 0x10000 ? 4 : 8;
  std::string out(1, digits == 2 ? 'x' : digits == 4 ? 'u' : 'U');
  for (std::size_t i = digits; i-- > 0;) out += "0123456789abcdef"[value >> (4 * i) & 15];
  return out;
}

void append_escape(std::string& out, std::string_view text, std::size_t& at) {
  constexpr std::string_view kLetters = "abfnrtv\\'\"";
  constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
  const char c = text[at];
  if (const auto letter = kLetters.find(c); letter != std::string_view::npos) {
    out += kValues[letter];
    ++at;
  } else if (c == '\n') {
    ++at;
  } else if (c == 'x' || c == 'u' || c == 'U') {
    append_utf8(out, hex_escape(text, ++at, c == 'x' ? 2 : c == 'u' ? 4 : 8));
  } else if (c >= '0' && c <= '7') {
    append_utf8(out, octal_escape(text, at));
  } else if (c == 'N') {
    throw Error("\\N escapes are not supported in a string; write the character or \\u and its number");
  } else if (static_cast<unsigned char>(c) >= 0x80) {
    const CodePoint point = code_point_at(text, at);
    out += "\\" + escaped_name(point.value);
    at += point.bytes;
  } else {
    out += '\\';
  }
}

}  // namespace

CodePoint code_point_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {};
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return {};
  std::uint32_t value = lead & (0xFFu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {};
    value = value << 6 | (byte(at + i) & 0x3F);
  }
  const std::uint32_t least = bytes == 4 ? 0x10000 : bytes == 3 ? 0x800 : 0x80;
  if (value < least || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return {};
  return {value, bytes};
}

void append_utf8(std::string& out, std::uint32_t value) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (value >> shift & 0x3F)); };
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (value < 0x800) {
    out += static_cast<char>(0xC0 | value >> 6);
    tail(0);
  } else if (value < 0x10000) {
    out += static_cast<char>(0xE0 | value >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | value >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_space(std::uint32_t value) {
  return (value >= 9 && value <= 13) || (value >= 28 && value <= 32) || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 ||
         value == 0x202F || value == 0x205F || value == 0x3000;
}

std::size_t skip_space(std::string_view text, std::size_t at) {
  for (CodePoint point = code_point_at(text, at); point.bytes > 0 && is_space(point.value);
       point = code_point_at(text, at))
    at += point.bytes;
  return at;
}

std::size_t size_without_trailing_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t first = end - 1;
    while (first > 0 && (static_cast<unsigned char>(text[first]) & 0xC0) == 0x80) --first;
    if (!is_space(code_point_at(text, first).value)) break;
    end = first;
  }
  return end;
}

std::string unescape(std::string_view literal) {
  std::string out;
  for (std::size_t at = 0; at < literal.size();) {
    if (literal[at] != '\\' || at + 1 == literal.size()) {
      out += literal[at++];
    } else {
      append_escape(out, literal, ++at);
    }
  }
  return out;
}

}  // namespace bezel::jinja
