// Filters that apply a filter or a test to each element, lazily.
#include "bezel/error.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/filters.h"

namespace bezel::jinja {
namespace {

using Convert = std::function<Value(const Value&)>;

std::optional<Value> take_named(Arguments& arguments, std::string_view name) {
  for (auto at = arguments.named.begin(); at != arguments.named.end(); ++at) {
    if (at->first != name) continue;
    Value value = std::move(at->second);
    arguments.named.erase(at);
    return value;
  }
  return std::nullopt;
}

std::string take_name(Arguments& arguments, std::string_view filter) {
  if (arguments.positional.empty() || !arguments.positional[0].is_string())
    throw Error(filter, "() needs the name of what to apply first");
  std::string name = arguments.positional[0].bytes();
  arguments.positional.erase(arguments.positional.begin());
  return name;
}

Convert conversion(Runtime& runtime, Arguments arguments) {
  if (arguments.positional.empty()) {
    if (const std::optional<Value> attribute = take_named(arguments, "attribute")) {
      const Value otherwise = take_named(arguments, "default").value_or(Value::none());
      if (!arguments.named.empty()) throw Error("map() has no argument '", arguments.named[0].first, "'");
      return attribute_getter(runtime, *attribute, otherwise);
    }
  }
  const std::string name = take_name(arguments, "map");
  return [&runtime, name, arguments](const Value& item) { return apply_filter(runtime, name, item, arguments); };
}

Value map_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  if (!truth(value)) return generator([] { return std::nullopt; }, 0);
  auto next = iterate(runtime, value);
  auto convert = conversion(runtime, std::move(arguments));
  return generator(
      [&runtime, next = std::move(next), convert = std::move(convert)]() -> std::optional<Value> {
        runtime.spend(1);
        const std::optional<Value> item = next();
        return item ? std::optional(convert(*item)) : std::nullopt;
      },
      value.is(Kind::kIterator) ? value.depth() : 0);
}

Value selected(Runtime& runtime, const Value& value, Arguments arguments, bool by_attribute, bool wanted) {
  if (!truth(value)) return generator([] { return std::nullopt; }, 0);
  auto next = iterate(runtime, value);
  Convert pick = [](const Value& item) { return item; };
  if (by_attribute) {
    if (arguments.positional.empty()) throw Error("selectattr() and rejectattr() need the name of an attribute");
    pick = attribute_getter(runtime, arguments.positional[0], Value::none());
    arguments.positional.erase(arguments.positional.begin());
  }
  std::function<bool(const Value&)> test = truth;
  if (!arguments.positional.empty()) {
    const std::string name = take_name(arguments, "select");
    test = [&runtime, name, arguments](const Value& item) { return apply_test(runtime, name, item, arguments); };
  }
  return generator(
      [&runtime, next = std::move(next), pick = std::move(pick), test = std::move(test),
       wanted]() -> std::optional<Value> {
        while (std::optional<Value> item = next()) {
          runtime.spend(1);
          if (test(pick(*item)) == wanted) return item;
        }
        return std::nullopt;
      },
      value.is(Kind::kIterator) ? value.depth() : 0);
}

Value select_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return selected(runtime, value, std::move(arguments), false, true);
}

Value reject_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return selected(runtime, value, std::move(arguments), false, false);
}

Value selectattr_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return selected(runtime, value, std::move(arguments), true, true);
}

Value rejectattr_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return selected(runtime, value, std::move(arguments), true, false);
}

constexpr Filter kSelectingFilters[] = {{"map", map_filter},
                                        {"select", select_filter},
                                        {"reject", reject_filter},
                                        {"selectattr", selectattr_filter},
                                        {"rejectattr", rejectattr_filter}};

}  // namespace

std::span<const Filter> selecting_filters() { return kSelectingFilters; }

}  // namespace bezel::jinja
