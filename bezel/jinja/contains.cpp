#include "bezel/jinja/contains.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"

namespace bezel::jinja {

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (item.is_undefined()) throw Error(item.bytes());
    if (!item.is_string()) throw Error("'in' of a string needs a string, got a ", type_name(item));
    runtime.spend_text(container.bytes().size());
    return container.bytes().find(item.bytes()) != std::string::npos;
  }
  const bool is_key_view = container.is(Kind::kView) && container.as<ViewObject>().part == ViewObject::Part::kKeys;
  if (container.is(Kind::kDict) || is_key_view) {
    if (!is_hashable(item)) throw Error("a ", type_name(item), " is no key of a dict");
    const Value& dict = is_key_view ? container.as<ViewObject>().dict : container;
    return dict.as<DictObject>().find(item) != nullptr;
  }
  const auto next = iterate(runtime, container);
  while (const std::optional<Value> element = next()) {
    runtime.spend(element->weight());
    if (equal(*element, item)) return true;
  }
  return false;
}

bool compare(Runtime& runtime, const std::string& operation, const Value& left, const Value& right) {
  if (operation == "in") return contains(runtime, right, left);
  if (operation == "not in") return !contains(runtime, right, left);
  runtime.spend(std::min(left.weight(), right.weight()));
  if (operation == "==") return equal(left, right);
  if (operation == "!=") return !equal(left, right);
  if (operation == "<") return less(left, right);
  if (operation == ">") return less(right, left);
  // NaN is neither less nor equal.
  return operation == "<=" ? less(left, right) || equal(left, right) : less(right, left) || equal(left, right);
}

}  // namespace bezel::jinja
