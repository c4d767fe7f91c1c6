#include "bezel/jinja/filters.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/letter_case.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

Value default_filter(Runtime&, const Value& value, Arguments arguments) {
  const Bound bound("default", std::move(arguments), {"default_value", "boolean"}, 0);
  const bool is_missing = value.is_undefined() || (bound.has(1) && truth(bound[1]) && !truth(value));
  return is_missing ? bound.get(0, Value::string({})) : value;
}

Value attr_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("attr", std::move(arguments), {"name"}, 1);
  if (value.is(Kind::kDict)) throw Error("the filter 'attr' of a dict is not supported: write value.name");
  return get_attribute(runtime, value, bound.text(0).bytes());
}

constexpr Filter kOtherFilters[] = {
    {"default", default_filter}, {"d", default_filter}, {"attr", attr_filter}, {"tojson", to_json}};

constexpr std::string_view kUnsupported[] = {"filesizeformat", "pprint", "random",   "striptags",
                                             "urlencode",      "urlize", "wordwrap", "xmlattr"};

const Filter* find_filter(const std::string& name) {
  for (const auto& filters :
       {std::span<const Filter>(kOtherFilters), text_filters(), list_filters(), selecting_filters(), number_filters()})
    for (const Filter& filter : filters)
      if (filter.name == name) return &filter;
  return nullptr;
}

bool is_unsupported(const std::string& name) {
  return std::find(std::begin(kUnsupported), std::end(kUnsupported), name) != std::end(kUnsupported);
}

}  // namespace

bool has_filter(const std::string& name) { return find_filter(name) != nullptr || is_unsupported(name); }

Value apply_filter(Runtime& runtime, const std::string& name, const Value& value, Arguments arguments) {
  const Runtime::Nesting nesting(runtime);
  runtime.spend(1);
  if (is_unsupported(name)) throw Error("the filter '", name, "' is not supported");
  const Filter* filter = find_filter(name);
  if (filter == nullptr) throw Error("there is no filter '", name, "'");
  return filter->function(runtime, value, std::move(arguments));
}

std::function<Value(const Value&)> attribute_getter(Runtime& runtime, const Value& attribute, const Value& otherwise) {
  std::vector<Value> parts;
  if (attribute.is_string()) {
    for (TracedText& part : split_text(attribute.text(), ".", -1)) {
      const std::string& name = part.bytes();
      const bool is_number =
          !name.empty() && name.size() < 10 && name.find_first_not_of("0123456789") == std::string::npos;
      parts.push_back(is_number ? Value::integer(std::stoll(name)) : Value::string(std::move(part)));
    }
  } else if (!attribute.is(Kind::kNone)) {
    parts.push_back(attribute);
  }
  return [&runtime, parts = std::move(parts), otherwise](const Value& item) {
    Value value = item;
    for (const Value& part : parts) {
      value = get_item(runtime, value, part);
      if (value.is_undefined() && !otherwise.is(Kind::kNone)) value = otherwise;
    }
    return value;
  };
}

Value without_case(const Value& value) { return value.is_string() ? Value::string(to_lower(value.text())) : value; }

}  // namespace bezel::jinja
