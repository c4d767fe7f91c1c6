#include "bezel/jinja/methods.h"

#include <algorithm>
#include <string_view>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/runtime.h"

namespace bezel::jinja {
namespace {

constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListChanges[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};

template <std::size_t N>
bool is_one_of(const std::string& name, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Value unsafe(const Value& value, const std::string& name) {
  return Value::undefined("templates may not change a " + std::string(type_name(value)) + " with ." + name + "()");
}

Value view_method(const Value& dict, ViewObject::Part part, const std::string& name) {
  return callable(name, [dict, part, name](Runtime&, Arguments arguments) {
    const Bound bound(name, std::move(arguments), {}, 0);
    auto view = std::make_shared<ViewObject>();
    view->part = part;
    view->dict = dict;
    view->depth = dict.depth();
    view->weight = dict.weight();
    return Value::of(Kind::kView, std::move(view));
  });
}

Value get_method(const Value& dict) {
  return callable("get", [dict](Runtime&, Arguments arguments) {
    const Bound bound("get", std::move(arguments), {"key", "default"}, 1);
    if (!is_hashable(bound[0])) throw Error("get(): a ", type_name(bound[0]), " is no key of a dict");
    const Value* found = dict.as<DictObject>().find(bound[0]);
    return found != nullptr ? *found : bound.get(1, Value::none());
  });
}

Value count_method(const Value& list) {
  return callable("count", [list](Runtime& runtime, Arguments arguments) {
    const Bound bound("count", std::move(arguments), {"value"}, 1);
    runtime.spend(list.weight());
    const auto& items = list.items();
    return Value::integer(
        std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, bound[0]); }));
  });
}

Value index_method(const Value& list) {
  return callable("index", [list](Runtime& runtime, Arguments arguments) {
    const Bound bound("index", std::move(arguments), {"value"}, 1);
    runtime.spend(list.weight());
    for (std::size_t i = 0; i < list.items().size(); ++i)
      if (equal(list.items()[i], bound[0])) return Value::integer(static_cast<std::int64_t>(i));
    throw Error("index(): the value is not in the list");
  });
}

Value copy_method(const Value& value) {
  return callable("copy", [value](Runtime&, Arguments arguments) {
    const Bound bound("copy", std::move(arguments), {}, 0);
    return value;
  });
}

}  // namespace

std::optional<Value> find_method(const Value& value, const std::string& name) {
  if (value.is_string()) return find_string_method(value, name);
  if (value.is(Kind::kDict)) {
    if (name == "get") return get_method(value);
    if (name == "items") return view_method(value, ViewObject::Part::kItems, name);
    if (name == "keys") return view_method(value, ViewObject::Part::kKeys, name);
    if (name == "values") return view_method(value, ViewObject::Part::kValues, name);
    if (name == "copy") return copy_method(value);
    if (is_one_of(name, kDictChanges)) return unsafe(value, name);
    if (name == "fromkeys") throw Error("the method .fromkeys() of a dict is not supported");
  }
  if (value.is(Kind::kList) || value.is(Kind::kTuple)) {
    const bool is_group = value.as<ListObject>().is_group;
    if (is_group && (name == "grouper" || name == "list")) return value.items()[name == "list" ? 1 : 0];
    if (name == "count") return count_method(value);
    if (name == "index") return index_method(value);
    if (value.is(Kind::kList) && name == "copy") return copy_method(value);
    if (value.is(Kind::kList) && is_one_of(name, kListChanges)) return unsafe(value, name);
  }
  if (value.is(Kind::kRange) &&
      (name == "count" || name == "index" || name == "start" || name == "stop" || name == "step"))
    throw Error("the attribute .", name, " of a range is not supported");
  return std::nullopt;
}

}  // namespace bezel::jinja
