// Tests: the words after `is`.
#include <algorithm>
#include <span>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/arithmetic.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/contains.h"
#include "bezel/jinja/letter_case.h"
#include "bezel/jinja/runtime.h"

namespace bezel::jinja {
namespace {

bool is_sequence(const Value& value) {
  const Kind kind = value.kind();
  return kind == Kind::kUndefined || kind == Kind::kString || kind == Kind::kList || kind == Kind::kTuple ||
         kind == Kind::kDict || kind == Kind::kRange;
}

// Tests without an argument.
struct Plain {
  std::string_view name;
  bool (*function)(const Value&);
};

constexpr Plain kPlain[] = {
    {"defined", [](const Value& v) { return !v.is_undefined(); }},
    {"undefined", [](const Value& v) { return v.is_undefined(); }},
    {"none", [](const Value& v) { return v.is(Kind::kNone); }},
    {"boolean", [](const Value& v) { return v.is(Kind::kBoolean); }},
    {"true", [](const Value& v) { return v.is(Kind::kBoolean) && v.as_boolean(); }},
    {"false", [](const Value& v) { return v.is(Kind::kBoolean) && !v.as_boolean(); }},
    {"integer", [](const Value& v) { return v.is(Kind::kInteger) || v.is(Kind::kBigInteger); }},
    {"float", [](const Value& v) { return v.is(Kind::kFloat); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"mapping", [](const Value& v) { return v.is(Kind::kDict); }},
    {"sequence", is_sequence},
    {"iterable", is_iterable},
    {"callable", [](const Value& v) { return v.is(Kind::kCallable) || v.is(Kind::kLoop) || v.is_undefined(); }},
    {"escaped", [](const Value& v) { return v.is_markup(); }},
};

struct Comparison {
  std::string_view name, operation;
};

constexpr Comparison kComparisons[] = {
    {"==", "=="}, {"eq", "=="},      {"equalto", "=="},    {"!=", "!="}, {"ne", "!="}, {">", ">"},
    {"gt", ">"},  {">=", ">="},      {"greaterthan", ">"}, {"ge", ">="}, {"<", "<"},   {"lt", "<"},
    {"<=", "<="}, {"lessthan", "<"}, {"le", "<="},         {"in", "in"},
};

bool is_same(const Value& left, const Value& right) {
  if (left.kind() != right.kind()) return false;
  if (left.is(Kind::kNone)) return true;
  if (left.is(Kind::kBoolean) || left.is(Kind::kInteger)) return left.as_integer() == right.as_integer();
  if (left.is(Kind::kString) || left.is(Kind::kFloat))
    throw Error("sameas of a ", type_name(left), " is not supported: write ==");
  return left.object() == right.object();
}

bool has_remainder(Runtime& runtime, const Value& value, const Value& divisor, std::int64_t rest) {
  return equal(arithmetic(runtime, "%", value, divisor), Value::integer(rest));
}

constexpr std::string_view kOthers[] = {"odd", "even", "divisibleby", "sameas", "lower", "upper", "filter", "test"};

template <typename T>
const T* find(std::span<const T> tests, const std::string& name) {
  const auto found = std::find_if(tests.begin(), tests.end(), [&](const T& test) { return test.name == name; });
  return found == tests.end() ? nullptr : &*found;
}

bool apply_other(Runtime& runtime, const std::string& name, const Value& value, Arguments arguments) {
  if (name == "divisibleby") {
    const Bound bound(name, std::move(arguments), {"num"}, 1);
    return has_remainder(runtime, value, bound[0], 0);
  }
  if (name == "sameas") {
    const Bound bound(name, std::move(arguments), {"other"}, 1);
    return is_same(value, bound[0]);
  }
  const Bound bound(name, std::move(arguments), {}, 0);
  if (name == "odd") return has_remainder(runtime, value, Value::integer(2), 1);
  if (name == "even") return has_remainder(runtime, value, Value::integer(2), 0);
  if (name == "filter" || name == "test") {
    if (!is_hashable(value)) throw Error("a ", type_name(value), " is no name of a ", name);
    return value.is_string() && (name == "filter" ? has_filter(value.bytes()) : has_test(value.bytes()));
  }
  const TracedText text = runtime.text_of(value);
  return name == "lower" ? is_lower(text.bytes()) : is_upper(text.bytes());
}

}  // namespace

bool has_test(const std::string& name) {
  return find(std::span<const Plain>(kPlain), name) != nullptr ||
         find(std::span<const Comparison>(kComparisons), name) != nullptr ||
         std::find(std::begin(kOthers), std::end(kOthers), name) != std::end(kOthers);
}

bool apply_test(Runtime& runtime, const std::string& name, const Value& value, Arguments arguments) {
  runtime.spend(1);
  if (const Plain* plain = find(std::span<const Plain>(kPlain), name)) {
    const Bound bound(name, std::move(arguments), {}, 0);
    return plain->function(value);
  }
  if (const Comparison* comparison = find(std::span<const Comparison>(kComparisons), name)) {
    const Bound bound(name, std::move(arguments), {"other"}, 1);
    return compare(runtime, std::string(comparison->operation), value, bound[0]);
  }
  if (!has_test(name)) throw Error("there is no test '", name, "'");
  return apply_other(runtime, name, value, std::move(arguments));
}

}  // namespace bezel::jinja
