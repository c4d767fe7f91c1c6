#include "bezel/jinja/compare.h"

#include <algorithm>
#include <cmath>

#include "bezel/error.h"

namespace bezel::jinja {
namespace {

int sign_of(bool is_less, bool is_more) { return is_less ? -1 : is_more ? 1 : 0; }

int compare_digits(const std::string& left, const std::string& right) {
  const bool left_negative = left[0] == '-', right_negative = right[0] == '-';
  if (left_negative != right_negative) return left_negative ? -1 : 1;
  int order = left.size() != right.size() ? sign_of(left.size() < right.size(), true) : left.compare(right);
  order = sign_of(order<0, order> 0);
  return left_negative ? -order : order;
}

long double wide(const Value& value) {
  if (value.is(Kind::kFloat)) return value.as_real();
  return value.is(Kind::kBigInteger) ? std::strtold(value.bytes().c_str(), nullptr)
                                     : static_cast<long double>(value.as_integer());
}

// Order of two numbers, neither of which is NaN.
int compare_numbers(const Value& left, const Value& right) {
  if (left.is(Kind::kFloat) || right.is(Kind::kFloat) || left.is(Kind::kBigInteger) != right.is(Kind::kBigInteger))
    return sign_of(wide(left) < wide(right), wide(left) > wide(right));
  if (left.is(Kind::kBigInteger)) return compare_digits(left.bytes(), right.bytes());
  return sign_of(left.as_integer() < right.as_integer(), left.as_integer() > right.as_integer());
}

bool has_nan(const Value& left, const Value& right) {
  return (left.is(Kind::kFloat) && std::isnan(left.as_real())) ||
         (right.is(Kind::kFloat) && std::isnan(right.as_real()));
}

bool equal_dicts(const DictObject& left, const DictObject& right) {
  if (left.items().size() != right.items().size()) return false;
  return std::all_of(left.items().begin(), left.items().end(), [&](const DictObject::Item& item) {
    const Value* other = right.find(item.first);
    return other != nullptr && equal(item.second, *other);
  });
}

}  // namespace

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBoolean:
    case Kind::kInteger:
      return value.as_integer() != 0;
    case Kind::kFloat:
      return value.as_real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.items().empty();
    case Kind::kDict:
      return !value.as<DictObject>().items().empty();
    case Kind::kView:
      return truth(value.as<ViewObject>().dict);
    case Kind::kRange:
      return value.as<RangeObject>().size > 0;
    default:
      return true;
  }
}

bool equal(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return !has_nan(left, right) && compare_numbers(left, right) == 0;
  if (left.kind() != right.kind()) return false;
  if (left.is_undefined() || left.is(Kind::kNone)) return true;
  if (left.is_string()) return left.bytes() == right.bytes();
  if (left.object() == right.object()) return true;
  if (is_list_or_tuple(left)) {
    const auto &a = left.items(), &b = right.items();
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
  }
  if (left.is(Kind::kDict)) return equal_dicts(left.as<DictObject>(), right.as<DictObject>());
  if (left.is(Kind::kRange)) {
    const auto &a = left.as<RangeObject>(), &b = right.as<RangeObject>();
    return a.size == b.size && (a.size == 0 || (a.begin == b.begin && (a.size == 1 || a.step == b.step)));
  }
  if (left.is(Kind::kView)) throw Error("comparing dict views with == is not supported");
  return false;
}

bool less(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return !has_nan(left, right) && compare_numbers(left, right) < 0;
  if (left.is_string() && right.is_string()) return left.bytes() < right.bytes();
  if (is_list_or_tuple(left) && left.kind() == right.kind()) {
    const auto &a = left.items(), &b = right.items();
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
      if (!equal(a[i], b[i])) return less(a[i], b[i]);
    return a.size() < b.size();
  }
  if (left.is_undefined()) throw Error(left.bytes());
  if (right.is_undefined()) throw Error(right.bytes());
  throw Error("'", type_name(left), "' and '", type_name(right), "' have no order");
}

bool is_hashable(const Value& value) {
  if (value.is(Kind::kTuple)) return std::all_of(value.items().begin(), value.items().end(), is_hashable);
  return !value.is(Kind::kList) && !value.is(Kind::kDict) && !value.is(Kind::kView);
}

}  // namespace bezel::jinja
