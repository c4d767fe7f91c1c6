#include "bezel/jinja/format.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/print.h"
#include "bezel/jinja/text.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

constexpr int kMaxWidth = 10000;

/// How one value is written.
struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^' or '='
  char sign = '-';
  bool alternate = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

int read_number(std::string_view text, std::size_t& at) {
  int number = 0;
  for (; at < text.size() && is_digit(text[at]); ++at) {
    number = number * 10 + (text[at] - '0');
    if (number > kMaxWidth) throw Error("a width or precision in a format is more than ", kMaxWidth);
  }
  return number;
}

std::string with_sign(std::string digits, bool negative, const Spec& spec) {
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  const std::size_t length = sign.size() + digits.size();
  if (spec.align == '=' && length < static_cast<std::size_t>(spec.width))
    digits.insert(0, std::string(static_cast<std::size_t>(spec.width) - length, spec.fill[0]));
  return sign + digits;
}

std::string integer_text(const Value& value, const Spec& spec) {
  if (value.is(Kind::kBigInteger)) throw Error("formatting integers beyond 64 bits is not supported");
  const std::int64_t number = value.is(Kind::kFloat) ? static_cast<std::int64_t>(value.as_real()) : value.as_integer();
  const auto size = number < 0 ? 0 - static_cast<unsigned long long>(number) : static_cast<unsigned long long>(number);
  std::array<char, 32> buffer{};
  const char* pattern = spec.type == 'x' ? "%llx" : spec.type == 'X' ? "%llX" : spec.type == 'o' ? "%llo" : "%llu";
  std::snprintf(buffer.data(), buffer.size(), pattern, size);
  const bool plain = spec.type != 'x' && spec.type != 'X' && spec.type != 'o';
  if (spec.alternate && !plain) throw Error("the flag # in a format is not supported");
  std::string digits = buffer.data();
  if (spec.precision > static_cast<int>(digits.size()))
    digits.insert(0, std::string(static_cast<std::size_t>(spec.precision) - digits.size(), '0'));
  return with_sign(digits, number < 0, spec);
}

std::string real_text(const Value& value, const Spec& spec) {
  const double number = value.is(Kind::kFloat) ? value.as_real() : static_cast<double>(value.as_integer());
  if (value.is(Kind::kBigInteger)) throw Error("formatting integers beyond 64 bits is not supported");
  if (!std::isfinite(number)) return with_sign(std::isnan(number) ? "nan" : "inf", number < 0, spec);
  const std::string pattern = std::string("%.*") + spec.type;
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  const double size = std::fabs(number);
  std::string digits(static_cast<std::size_t>(std::snprintf(nullptr, 0, pattern.c_str(), precision, size)), ' ');
  std::snprintf(digits.data(), digits.size() + 1, pattern.c_str(), precision, size);
  return with_sign(digits, std::signbit(number), spec);
}

TracedText padded(Runtime& runtime, TracedText text, const Spec& spec, char otherwise) {
  const std::size_t length = characters_of(text.bytes());
  if (length >= static_cast<std::size_t>(spec.width)) return text;
  const std::size_t missing = static_cast<std::size_t>(spec.width) - length;
  const char align = spec.align == 0 ? otherwise : spec.align;
  const std::size_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  TracedText out;
  for (std::size_t i = 0; i < missing; ++i) {
    if (i == left) out.append(text);
    out.append(spec.fill, runtime.owner);
  }
  if (left == missing) out.append(text);
  runtime.spend_text(out.size());
  return out;
}

Origin origin_of(const Runtime& runtime, const Value& value) {
  return value.origin().message < 0 ? runtime.owner : value.origin();
}

TracedText number_text(Runtime& runtime, const Value& value, const Spec& spec) {
  if (value.is_undefined()) throw Error(value.bytes());
  if (!value.is_number()) throw Error("the format %", spec.type, " needs a number, got a ", type_name(value));
  const bool whole = std::string_view("diuxXo").find(spec.type) != std::string_view::npos;
  if (whole && value.is(Kind::kFloat) && !(std::fabs(value.as_real()) < 9e18))
    throw Error("the format %", spec.type, " needs a number within 64 bits");
  return padded(runtime, {whole ? integer_text(value, spec) : real_text(value, spec), origin_of(runtime, value)}, spec,
                '>');
}

TracedText cut(TracedText text, int precision) {
  return precision < 0 ? text : text.substr(0, offset_of(text.bytes(), static_cast<std::size_t>(precision)));
}

// The values that a %-format takes, one after the other or by name.
class Source {
 public:
  explicit Source(const Value& value) : value_(value) {}

  Value next() {
    const bool is_tuple = value_.is(Kind::kTuple);
    const std::size_t size = is_tuple ? value_.items().size() : 1;
    if (taken_ >= size) throw Error("a format string takes more values than it is given");
    return is_tuple ? value_.items()[taken_++] : (++taken_, value_);
  }
  Value named(const std::string& name) {
    by_name_ = true;
    const Value* found = value_.is(Kind::kDict) ? value_.as<DictObject>().find(name) : nullptr;
    if (found == nullptr) throw Error("a format string names '", name, "', which it is not given");
    return *found;
  }
  void check_end() const {
    const bool is_dict = value_.is(Kind::kDict) || value_.is(Kind::kList);
    const std::size_t size = value_.is(Kind::kTuple) ? value_.items().size() : 1;
    if (!by_name_ && !is_dict && taken_ < size) throw Error("a format string takes fewer values than it is given");
  }

 private:
  const Value& value_;
  std::size_t taken_ = 0;
  bool by_name_ = false;
};

std::optional<std::string> read_name(std::string_view text, std::size_t& at) {
  if (at >= text.size() || text[at] != '(') return std::nullopt;
  const std::size_t close = text.find(')', at);
  if (close == std::string_view::npos) throw Error("a format string has '%(' without ')'");
  const std::string name(text.substr(at + 1, close - at - 1));
  at = close + 1;
  return name;
}

Spec read_percent_spec(std::string_view text, std::size_t& at) {
  Spec spec;
  for (; at < text.size() && std::string_view("-+ 0#").find(text[at]) != std::string_view::npos; ++at) {
    if (text[at] == '-') spec.align = '<';
    if (text[at] == '0' && spec.align == 0) spec.align = '=';
    if (text[at] == '+' || (text[at] == ' ' && spec.sign != '+')) spec.sign = text[at];
    if (text[at] == '#') spec.alternate = true;
  }
  if (spec.align == '=') spec.fill = "0";
  spec.width = read_number(text, at);
  if (at < text.size() && text[at] == '.') spec.precision = read_number(text, ++at);
  while (at < text.size() && (text[at] == 'l' || text[at] == 'h' || text[at] == 'L')) ++at;
  if (at == text.size()) throw Error("a format string ends inside of a field");
  spec.type = text[at++];
  return spec;
}

TracedText percent_field(Runtime& runtime, const Value& value, Spec spec) {
  if (std::string_view("diuxXoeEfFgG").find(spec.type) != std::string_view::npos)
    return number_text(runtime, value, spec);
  if (spec.type != 's' && spec.type != 'r') throw Error("the format %", spec.type, " is not supported");
  if (spec.align == '=') spec = {.align = '>', .width = spec.width, .precision = spec.precision, .type = spec.type};
  TracedText text = spec.type == 's' ? runtime.text_of(value) : TracedText(repr(value), origin_of(runtime, value));
  return padded(runtime, cut(std::move(text), spec.precision), spec, '>');
}

Spec read_brace_spec(std::string_view text) {
  Spec spec;
  std::size_t at = 0;
  const auto is_align = [&](std::size_t i) {
    return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
  };
  const std::size_t first = code_point_at(text, 0).bytes;
  if (!text.empty() && is_align(first)) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && std::string_view("+- ").find(text[at]) != std::string_view::npos) spec.sign = text[at++];
  if (at < text.size() && text[at] == '0' && spec.align == 0) {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = read_number(text, at);
  if (at < text.size() && text[at] == '.') spec.precision = read_number(text, ++at);
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size() || spec.fill.size() > 1) throw Error("the format specification '", text, "' is not supported");
  return spec;
}

TracedText brace_field(Runtime& runtime, const Value& value, std::string_view text) {
  if (text.empty()) return runtime.text_of(value);
  const Spec spec = read_brace_spec(text);
  if (spec.type != 0 && std::string_view("dxXoeEfFgG").find(spec.type) != std::string_view::npos) {
    if (value.is(Kind::kFloat) && std::string_view("dxXo").find(spec.type) != std::string_view::npos)
      throw Error("the format {:", text, "} needs a whole number");
    return number_text(runtime, value, spec);
  }
  if (value.is_integral() && !value.is(Kind::kBoolean) && spec.type == 0 && spec.precision < 0) {
    Spec whole = spec;
    whole.type = 'd';
    return number_text(runtime, value, whole);
  }
  if (!value.is_string() || (spec.type != 0 && spec.type != 's') || spec.align == '=')
    throw Error("the format {:", text, "} of a ", type_name(value), " is not supported");
  return padded(runtime, cut(value.text(), spec.precision), spec, '<');
}

// The value of "0" or "name"; "" takes the next one.
Value field_value(std::string_view path, const Arguments& arguments, std::size_t& next) {
  const std::size_t stop = path.find_first_of(".[");
  const std::string first(path.substr(0, stop));
  if (stop != std::string_view::npos) throw Error("the format field '", path, "' is not supported: name a plain value");
  if (first.empty() || is_digit(first[0])) {
    std::size_t at = 0;
    const std::size_t i = first.empty() ? next++ : static_cast<std::size_t>(read_number(first, at));
    if (i >= arguments.positional.size()) throw Error("format() has no value number ", i);
    return arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named)
    if (name == first) return value;
  throw Error("format() has no value '", first, "'");
}

}  // namespace

TracedText format_percent(Runtime& runtime, const TracedText& format, const Value& value) {
  const std::string_view text = format.bytes();
  Source source(value);
  TracedText out;
  std::size_t done = 0;
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', done)) {
    out.append(format, done, at++);
    const auto name = read_name(text, at);
    const Spec spec = read_percent_spec(text, at);
    if (spec.type == '%') {
      out.append("%", format.origin_at(at - 1));
    } else {
      out.append(percent_field(runtime, name ? source.named(*name) : source.next(), spec));
    }
    runtime.spend_text(out.size());
    done = at;
  }
  source.check_end();
  out.append(format, done, text.size());
  return out;
}

TracedText format_braces(Runtime& runtime, const TracedText& format, const Arguments& arguments) {
  const std::string_view text = format.bytes();
  TracedText out;
  std::size_t done = 0, next = 0;
  for (std::size_t at = text.find_first_of("{}"); at != std::string_view::npos; at = text.find_first_of("{}", done)) {
    out.append(format, done, at);
    if (at + 1 < text.size() && text[at + 1] == text[at]) {
      out.append(format, at, at + 1);
      done = at + 2;
      continue;
    }
    const std::size_t close = text.find('}', at);
    if (text[at] == '}' || close == std::string_view::npos)
      throw Error("a format string has a single '", text[at], "'");
    std::string_view field = text.substr(at + 1, close - at - 1);
    if (field.find('{') != std::string_view::npos) throw Error("a format field inside of another is not supported");
    const std::size_t colon = field.find(':');
    const std::string_view spec = colon == std::string_view::npos ? "" : field.substr(colon + 1);
    field = field.substr(0, colon);
    const bool as_repr = field.ends_with("!r");
    if (as_repr || field.ends_with("!s")) field.remove_suffix(2);
    Value value = field_value(field, arguments, next);
    if (as_repr) value = runtime.literal(repr(value));
    out.append(brace_field(runtime, value, spec));
    runtime.spend_text(out.size());
    done = close + 1;
  }
  out.append(format, done, text.size());
  return out;
}

}  // namespace bezel::jinja
