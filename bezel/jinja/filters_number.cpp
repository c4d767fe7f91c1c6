// Filters of numbers.
#include <charconv>
#include <cmath>
#include <cstdio>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/arithmetic.h"
#include "bezel/jinja/filters.h"
#include "bezel/jinja/integer_text.h"
#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

// The text as Python's int() and float() read it: without white space around it and '_' between digits.
std::optional<std::string> plain_number(std::string_view text) {
  text = text.substr(skip_space(text, 0));
  text = text.substr(0, size_without_trailing_space(text));
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_letter_or_digit = [&](std::size_t at) {
      return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at])) != 0;
    };
    if (text[i] == '_' && !(i > 0 && is_letter_or_digit(i - 1) && is_letter_or_digit(i + 1))) return std::nullopt;
    if (text[i] != '_') out += text[i];
  }
  if (out.starts_with('+')) out.erase(0, 1);
  if (out.starts_with('-') ? out.size() == 1 || out[1] == '+' || out[1] == '-' : out.empty() || out[0] == '+')
    return std::nullopt;
  return out;
}

std::optional<double> read_real(std::string_view text) {
  const auto number = plain_number(text);
  if (!number) return std::nullopt;
  double value = 0;
  const char* end = number->data() + number->size();
  const auto read = std::from_chars(number->data(), end, value);
  if (read.ptr != end || number->find('(') != std::string::npos) return std::nullopt;
  if (read.ec == std::errc::result_out_of_range) return std::strtod(number->c_str(), nullptr);
  return read.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<Value> read_whole(std::string_view text, std::int64_t base) {
  auto number = plain_number(text);
  if (!number || base < 2 || base > 36) return std::nullopt;
  const bool negative = number->starts_with("-");
  std::string digits = number->substr(negative ? 1 : 0);
  const char mark = digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : ' ';
  if ((base == 16 && mark == 'x') || (base == 8 && mark == 'o') || (base == 2 && mark == 'b')) digits.erase(0, 2);
  std::int64_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (digits.starts_with("-") || read.ptr != digits.data() + digits.size() || read.ec == std::errc::invalid_argument)
    return std::nullopt;
  if (read.ec == std::errc()) return Value::integer(negative ? -value : value);
  if (base != 10) throw Error("int() of a number beyond 64 bits is not supported for base ", base);
  return read_integer((negative ? "-" : "") + digits);
}

Value truncated(double value) {
  if (std::isinf(value)) throw Error("int() of an infinite number");
  if (std::fabs(value) < 9e18) return Value::integer(static_cast<std::int64_t>(value));
  char digits[400];
  std::snprintf(digits, sizeof(digits), "%.0f", value);
  return read_integer(digits);
}

Value int_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("int", std::move(arguments), {"default", "base"}, 0);
  const Value otherwise = bound.get(0, Value::integer(0));
  if (value.is_undefined()) throw Error(value.bytes());
  if (value.is_integral()) return Value::integer(value.as_integer());
  if (value.is(Kind::kBigInteger)) return value;
  if (value.is(Kind::kFloat)) return std::isnan(value.as_real()) ? otherwise : truncated(value.as_real());
  if (!value.is_string()) return otherwise;
  if (auto whole = read_whole(value.bytes(), bound.has(1) ? bound.integer(1) : 10)) return *whole;
  const auto real = read_real(value.bytes());
  return real && std::isfinite(*real) ? truncated(*real) : otherwise;
}

Value float_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("float", std::move(arguments), {"default"}, 0);
  if (value.is_undefined()) throw Error(value.bytes());
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::real(static_cast<double>(value.as_integer()));
  std::optional<double> read;
  if (value.is_string() || value.is(Kind::kBigInteger)) read = read_real(value.bytes());
  return read ? Value::real(*read) : bound.get(0, Value::real(0));
}

Value abs_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("abs", std::move(arguments), {}, 0);
  if (value.is_undefined()) throw Error(value.bytes());
  if (value.is(Kind::kFloat)) return Value::real(std::fabs(value.as_real()));
  const bool negative = value.is(Kind::kBigInteger) ? value.bytes()[0] == '-' : value.as_integer() < 0;
  return signed_number(negative ? "-" : "+", value);
}

double rounded(double value, std::int64_t precision) {
  if (!std::isfinite(value)) return value;
  if (precision < 0 || precision > 300) throw Error("round() with the precision ", precision, " is not supported");
  char digits[800];
  std::snprintf(digits, sizeof(digits), "%.*f", static_cast<int>(precision), value);
  double out = 0;
  std::from_chars(digits, digits + std::char_traits<char>::length(digits), out);
  return out;
}

Value round_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("round", std::move(arguments), {"precision", "method"}, 0);
  const std::string method = bound.has(1) ? bound.text(1).bytes() : "common";
  const std::int64_t precision = bound.has(0) ? bound.integer(0) : 0;
  if (method != "common" && method != "ceil" && method != "floor")
    throw Error("the method of round() is common, ceil or floor, got '", method, "'");
  if (value.is_undefined()) throw Error(value.bytes());
  if (!value.is_number()) throw Error("round() needs a number, got a ", type_name(value));
  if (value.is(Kind::kBigInteger)) throw Error("round() of an integer beyond 64 bits is not supported");
  if (method == "common" && value.is_integral()) {
    if (precision < 0) throw Error("round() with the precision ", precision, " is not supported");
    return Value::integer(value.as_integer());
  }
  const double real = value.is(Kind::kFloat) ? value.as_real() : static_cast<double>(value.as_integer());
  if (method == "common") return Value::real(rounded(real, precision));
  if (precision < 0 || precision > 15) throw Error("round() with the precision ", precision, " is not supported");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (!std::isfinite(real * scale)) throw Error("round() of a number that is not finite");
  return Value::real((method == "ceil" ? std::ceil(real * scale) : std::floor(real * scale)) / scale);
}

Value sum_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("sum", std::move(arguments), {"attribute", "start"}, 0);
  const auto pick = attribute_getter(runtime, bound.get(0, Value::none()), Value::none());
  Value sum = bound.get(1, Value::integer(0));
  if (sum.is_string()) throw Error("sum() does not add strings: use join");
  for (const Value& item : list_of(runtime, value)) sum = arithmetic(runtime, "+", sum, pick(item));
  return sum;
}

constexpr Filter kNumberFilters[] = {
    {"int", int_filter}, {"float", float_filter}, {"abs", abs_filter}, {"round", round_filter}, {"sum", sum_filter}};

}  // namespace

std::span<const Filter> number_filters() { return kNumberFilters; }

}  // namespace bezel::jinja
