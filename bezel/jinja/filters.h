#pragma once

#include <span>
#include <string_view>

#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// A filter by its name in jinja2.
struct Filter {
  std::string_view name;
  Value (*function)(Runtime&, const Value&, Arguments);
};

std::span<const Filter> text_filters();
std::span<const Filter> list_filters();
std::span<const Filter> selecting_filters();
std::span<const Filter> number_filters();

/// tojson as transformers defines it: json.dumps(value, ensure_ascii, indent, separators, sort_keys).
Value to_json(Runtime& runtime, const Value& value, Arguments arguments);

/// What a filter's argument `attribute` takes from an item: "name", "outer.inner", "0" or a number; None takes the
/// item. A missing one is `otherwise` unless that is None.
std::function<Value(const Value&)> attribute_getter(Runtime& runtime, const Value& attribute, const Value& otherwise);

/// A string in lower case, anything else as it is.
Value without_case(const Value& value);

}  // namespace bezel::jinja
