#include "bezel/jinja/arithmetic.h"

#include <cmath>

#include "bezel/error.h"
#include "bezel/jinja/format.h"
#include "bezel/jinja/markup.h"

namespace bezel::jinja {
namespace {

[[noreturn]] void fail_overflow() { throw Error("arithmetic on integers beyond 64 bits is not supported"); }

std::int64_t floor_divided(std::int64_t left, std::int64_t right) {
  if (right == 0) throw Error("division by zero");
  if (right == -1 && left == INT64_MIN) fail_overflow();
  const std::int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(result, base, &result)) fail_overflow();
  return result;
}

double real_of(const Value& value) {
  return value.is(Kind::kFloat) ? value.as_real() : static_cast<double>(value.as_integer());
}

double floor_modulo(double left, double right) {
  double rest = std::fmod(left, right);
  if (rest != 0 && (rest < 0) != (right < 0)) rest += right;
  return rest == 0 ? std::copysign(0.0, right) : rest;
}

double floor_quotient(double left, double right) {
  const double quotient = (left - floor_modulo(left, right)) / right;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value of_reals(const std::string& operation, double left, double right) {
  if (operation == "+") return Value::real(left + right);
  if (operation == "-") return Value::real(left - right);
  if (operation == "*") return Value::real(left * right);
  if (operation == "**") {
    if (left == 0 && right < 0) throw Error("0 to a negative power");
    if (left < 0 && right != std::floor(right)) throw Error("a complex number is not supported");
    const double result = std::pow(left, right);
    if (std::isinf(result) && std::isfinite(left) && std::isfinite(right)) throw Error("the power is too large");
    return Value::real(result);
  }
  if (right == 0) throw Error("division by zero");
  if (operation == "/") return Value::real(left / right);
  return Value::real(operation == "//" ? floor_quotient(left, right) : floor_modulo(left, right));
}

Value of_integers(const std::string& operation, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  bool overflow = false;
  if (operation == "+") {
    overflow = __builtin_add_overflow(left, right, &result);
  } else if (operation == "-") {
    overflow = __builtin_sub_overflow(left, right, &result);
  } else if (operation == "*") {
    overflow = __builtin_mul_overflow(left, right, &result);
  } else if (operation == "**" && right >= 0) {
    result = power(left, right);
  } else if (operation == "//") {
    result = floor_divided(left, right);
  } else if (operation == "%") {
    result = right == -1 ? 0 : left - floor_divided(left, right) * right;
  } else {
    return of_reals(operation, static_cast<double>(left), static_cast<double>(right));
  }
  if (overflow) fail_overflow();
  return Value::integer(result);
}

Value of_numbers(const std::string& operation, const Value& left, const Value& right) {
  if (left.is(Kind::kBigInteger) || right.is(Kind::kBigInteger)) fail_overflow();
  if (left.is(Kind::kFloat) || right.is(Kind::kFloat)) return of_reals(operation, real_of(left), real_of(right));
  return of_integers(operation, left.as_integer(), right.as_integer());
}

Value added_texts(Runtime& runtime, const Value& left, const Value& right) {
  const bool markup = left.is_markup() || right.is_markup();
  runtime.spend_text(left.bytes().size() + right.bytes().size());
  TracedText out = markup ? escaped(runtime, left) : left.text();
  out.append(markup ? escaped(runtime, right) : right.text());
  return Value::string(std::move(out), markup);
}

Value added_lists(Runtime& runtime, const Value& left, const Value& right) {
  std::vector<Value> items = left.items();
  items.insert(items.end(), right.items().begin(), right.items().end());
  runtime.spend(items.size());
  return left.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value repeated(Runtime& runtime, const Value& value, std::int64_t given) {
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(0, given));
  if (value.is_string()) {
    if (value.text().empty()) return value;
    runtime.spend_repeated(count, value.text().size());
    TracedText out;
    for (std::size_t i = 0; i < count; ++i) out.append(value.text());
    return Value::string(std::move(out), value.is_markup());
  }
  runtime.spend_repeated(value.items().empty() ? 0 : count, 16 * value.items().size());
  std::vector<Value> items;
  for (std::size_t i = 0; i < count && !value.items().empty(); ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

bool is_repeatable(const Value& value) { return value.is_string() || is_list_or_tuple(value); }

}  // namespace

Value arithmetic(Runtime& runtime, const std::string& operation, const Value& left, const Value& right) {
  runtime.spend(1);
  if (left.is_number() && right.is_number()) return of_numbers(operation, left, right);
  for (const Value* value : {&left, &right})
    if (value->is_undefined() && !(operation == "%" && left.is_string())) throw Error(value->bytes());
  if (operation == "+" && left.is_string() && right.is_string()) return added_texts(runtime, left, right);
  if (operation == "+" && is_list_or_tuple(left) && left.kind() == right.kind())
    return added_lists(runtime, left, right);
  if (operation == "*" && is_repeatable(left) && right.is_integral())
    return repeated(runtime, left, right.as_integer());
  if (operation == "*" && is_repeatable(right) && left.is_integral())
    return repeated(runtime, right, left.as_integer());
  if (operation == "%" && left.is_string()) {
    if (left.is_markup()) throw Error("formatting a text that is marked safe is not supported");
    return runtime.string(format_percent(runtime, left.text(), right));
  }
  if (operation == "+" && (left.is_markup() || right.is_markup()))
    throw Error("'+' of a text that is marked safe and a ", type_name(left.is_markup() ? right : left));
  throw Error("'", operation, "' is not defined for '", type_name(left), "' and '", type_name(right), "'");
}

Value signed_number(const std::string& sign, const Value& value) {
  if (value.is_undefined()) throw Error(value.bytes());
  if (!value.is_number()) throw Error("'", sign, "' is not defined for '", type_name(value), "'");
  if (value.is(Kind::kFloat)) return Value::real(sign == "-" ? -value.as_real() : value.as_real());
  if (sign == "+") return value.is(Kind::kBoolean) ? Value::integer(value.as_integer()) : value;
  if (value.is(Kind::kBigInteger)) {
    const std::string& digits = value.bytes();
    return digits[0] == '-' ? Value::big_integer(digits.substr(1)) : Value::big_integer("-" + digits);
  }
  if (value.as_integer() == INT64_MIN) return Value::big_integer("9223372036854775808");
  return Value::integer(-value.as_integer());
}

}  // namespace bezel::jinja
