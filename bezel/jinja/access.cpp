// Attributes, subscripts and slices.
#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/loop.h"
#include "bezel/jinja/methods.h"
#include "bezel/jinja/print.h"
#include "bezel/jinja/runtime.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

Value missing(const Value& value, const std::string& key) {
  return Value::undefined("a " + std::string(type_name(value)) + " has no attribute or key '" + key + "'");
}

std::optional<Value> own_attribute(const Value& value, const std::string& name) {
  if (value.is(Kind::kNamespace)) {
    const Value* found = value.as<NamespaceObject>().attributes.find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (value.is(Kind::kLoop)) return value.as<LoopObject>().attribute(name);
  if (value.is(Kind::kCallable) && value.as<CallableObject>().is_macro && name == "name")
    return Value::string({value.as<CallableObject>().name, {}});
  return find_method(value, name);
}

std::optional<Value> safe_attribute(const Value& value, const std::string& name) {
  if (name.starts_with("_")) return Value::undefined("templates may not use the attribute '" + name + "'");
  return own_attribute(value, name);
}

// The element of a str, list, tuple or range at a whole number, counted from the end when it is negative.
std::optional<Value> element(const Value& value, std::int64_t index) {
  const auto length = static_cast<std::int64_t>(length_of(value));
  if (index < 0) index += length;
  if (index < 0 || index >= length) return std::nullopt;
  const auto place = static_cast<std::size_t>(index);
  if (value.is(Kind::kRange))
    return Value::integer(value.as<RangeObject>().begin + value.as<RangeObject>().step * index);
  if (!value.is_string()) return value.items()[place];
  const std::size_t begin = offset_of(value.bytes(), place);
  return Value::string(value.text().substr(begin, begin + offset_of(value.bytes().substr(begin, 4), 1)),
                       value.is_markup());
}

bool is_sequence(const Value& value) {
  return value.is_string() || value.is(Kind::kList) || value.is(Kind::kTuple) || value.is(Kind::kRange);
}

std::optional<Value> subscript(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is(Kind::kDict)) {
    const Value* found = is_hashable(key) ? value.as<DictObject>().find(key) : nullptr;
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!is_sequence(value) || !key.is_integral()) return std::nullopt;
  if (value.is_string()) runtime.spend_text(value.bytes().size());
  return element(value, key.as_integer());
}

std::int64_t bound_of(const Value& bound, std::int64_t length, std::int64_t otherwise, std::int64_t least) {
  if (bound.is(Kind::kNone)) return otherwise;
  if (!bound.is_integral()) throw Error("a slice has a ", type_name(bound), " where a whole number belongs");
  std::int64_t at = bound.as_integer();
  if (at < 0) at = at < -length ? least : at + length;
  return std::clamp(at, least, least < 0 ? length - 1 : length);
}

Value range_slice(const RangeObject& range, std::int64_t first, std::int64_t last, std::int64_t step,
                  std::size_t size) {
  auto out = std::make_shared<RangeObject>();
  out->begin = range.begin + range.step * first;
  out->end = range.begin + range.step * last;
  out->step = range.step * step;
  out->size = static_cast<std::int64_t>(size);
  return Value::of(Kind::kRange, std::move(out));
}

Value gather(Runtime& runtime, const Value& value, const std::vector<std::int64_t>& places) {
  if (value.is_string()) {
    std::vector<std::size_t> offsets;
    for (std::size_t at = 0; at < value.bytes().size(); at = at + offset_of(value.bytes().substr(at, 4), 1))
      offsets.push_back(at);
    offsets.push_back(value.bytes().size());
    TracedText out;
    for (const std::int64_t place : places) {
      const auto i = static_cast<std::size_t>(place);
      out.append(value.text(), offsets[i], offsets[i + 1]);
    }
    return runtime.string(std::move(out), value.is_markup());
  }
  std::vector<Value> items;
  for (const std::int64_t place : places) items.push_back(*element(value, place));
  return value.is(Kind::kTuple) ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& value, const std::string& name) {
  runtime.spend(1);
  if (value.is_undefined()) throw Error(value.bytes().empty() ? "an undefined value has no attributes" : value.bytes());
  if (auto found = safe_attribute(value, name)) return *found;
  const Value* member = value.is(Kind::kDict) ? value.as<DictObject>().find(name) : nullptr;
  return member != nullptr ? *member : missing(value, name);
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  runtime.spend(1);
  if (value.is_undefined()) throw Error(value.bytes().empty() ? "an undefined value has no elements" : value.bytes());
  if (auto found = subscript(runtime, value, key)) return *found;
  if (!key.is_string()) return missing(value, key.is_number() ? repr(key) : std::string(type_name(key)));
  return safe_attribute(value, key.bytes()).value_or(missing(value, key.bytes()));
}

Value get_slice(Runtime& runtime, const Value& value, const Value& begin, const Value& end, const Value& step) {
  if (value.is_undefined()) throw Error(value.bytes().empty() ? "an undefined value has no elements" : value.bytes());
  if (!is_sequence(value)) throw Error("a ", type_name(value), " has no slices");
  const auto length = static_cast<std::int64_t>(length_of(value));
  runtime.spend(static_cast<std::size_t>(length));
  if (!step.is(Kind::kNone) && !step.is_integral()) throw Error("a slice has a step that is no whole number");
  const std::int64_t each = step.is(Kind::kNone) ? 1 : step.as_integer();
  if (each == 0) throw Error("a slice has the step 0");
  const std::int64_t first = bound_of(begin, length, each > 0 ? 0 : length - 1, each > 0 ? 0 : -1);
  const std::int64_t last = bound_of(end, length, each > 0 ? length : -1, each > 0 ? 0 : -1);
  std::vector<std::int64_t> places;
  const std::int64_t bounded = std::clamp(each, -length - 1, length + 1);
  for (std::int64_t at = first; bounded > 0 ? at < last : at > last; at += bounded) places.push_back(at);
  if (value.is(Kind::kRange)) return range_slice(value.as<RangeObject>(), first, last, bounded, places.size());
  return gather(runtime, value, places);
}

}  // namespace bezel::jinja
