#include "bezel/jinja/print.h"

#include <charconv>
#include <cmath>

#include "bezel/error.h"
#include "bezel/jinja/letter_case.h"
#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

void append_escaped(std::string& out, std::uint32_t code) {
  if (is_printable(code)) return append_utf8(out, code);
  const std::size_t digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
  out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
  for (std::size_t i = digits; i-- > 0;) out += "0123456789abcdef"[code >> (4 * i) & 15];
}

std::string string_repr(std::string_view text) {
  const bool double_quoted = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quoted ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    at += point.bytes;
    constexpr std::string_view kEscaped = "\\\n\r\t", kLetters = "\\nrt";
    const auto letter = point.value < 0x80 ? kEscaped.find(static_cast<char>(point.value)) : std::string_view::npos;
    if (letter != std::string_view::npos) {
      out += {'\\', kLetters[letter]};
    } else if (point.value == static_cast<std::uint32_t>(quote)) {
      out += {'\\', quote};
    } else {
      append_escaped(out, point.value);
    }
  }
  return out + quote;
}

std::string joined(const std::vector<Value>& items) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) out += (i > 0 ? ", " : "") + repr(items[i]);
  return out;
}

std::string dict_repr(const DictObject& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.items()) out += (out.size() > 1 ? ", " : "") + repr(key) + ": " + repr(value);
  return out + "}";
}

std::string view_repr(const ViewObject& view) {
  std::string out;
  for (const auto& [key, value] : view.dict.as<DictObject>().items()) {
    if (!out.empty()) out += ", ";
    if (view.part == ViewObject::Part::kItems)
      out += "(" + repr(key) + ", " + repr(value) + ")";
    else
      out += repr(view.part == ViewObject::Part::kKeys ? key : value);
  }
  constexpr const char* kNames[] = {"dict_keys", "dict_values", "dict_items"};
  return std::string(kNames[static_cast<int>(view.part)]) + "([" + out + "])";
}

std::string range_repr(const RangeObject& range) {
  const std::string step = range.step == 1 ? "" : ", " + std::to_string(range.step);
  return "range(" + std::to_string(range.begin) + ", " + std::to_string(range.end) + step + ")";
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string text(buffer, end);
  const std::size_t mark = text.find('e');
  const int exponent = std::stoi(text.substr(mark + 1));
  const std::string sign = text[0] == '-' ? "-" : "";
  std::string digits = text.substr(sign.size(), mark - sign.size());
  if (digits.size() > 1) digits.erase(1, 1);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    if (count > 1) digits.insert(1, ".");
    return sign + digits + text.substr(mark);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1)
    return sign + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.insert(static_cast<std::size_t>(exponent + 1), ".");
}

std::string repr(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBoolean:
      return value.as_boolean() ? "True" : "False";
    case Kind::kInteger:
      return std::to_string(value.as_integer());
    case Kind::kBigInteger:
      return value.bytes();
    case Kind::kFloat:
      return float_text(value.as_real());
    case Kind::kString:
      return value.is_markup() ? "Markup(" + string_repr(value.bytes()) + ")" : string_repr(value.bytes());
    case Kind::kList:
      return "[" + joined(value.items()) + "]";
    case Kind::kTuple:
      return "(" + joined(value.items()) + (value.items().size() == 1 ? ",)" : ")");
    case Kind::kDict:
      return dict_repr(value.as<DictObject>());
    case Kind::kView:
      return view_repr(value.as<ViewObject>());
    case Kind::kRange:
      return range_repr(value.as<RangeObject>());
    default:
      throw Error("printing a ", type_name(value), " is not supported");
  }
}

TracedText to_text(const Value& value, Origin owner) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  return {repr(value), value.origin().message < 0 ? owner : value.origin()};
}

}  // namespace bezel::jinja
