#include "bezel/jinja/integer_text.h"

#include <charconv>

#include "bezel/error.h"

namespace bezel::jinja {

Value read_integer(const std::string& digits) {
  const bool negative = digits.starts_with("-");
  std::string size = digits.substr(negative ? 1 : 0);
  const char mark = size.size() > 1 && size[0] == '0' ? static_cast<char>(size[1] | 0x20) : ' ';
  const int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
  size.erase(0, base == 10 ? size.find_first_not_of('0') : 2);
  if (size.empty()) size = "0";
  const std::string text = (negative ? "-" : "") + size;
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (read.ec == std::errc()) return Value::integer(value);
  if (base != 10) throw Error("the integer ", digits, " is beyond 64 bits, which only decimal ones may be");
  return Value::big_integer(text);
}

}  // namespace bezel::jinja
