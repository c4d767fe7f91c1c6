#include "bezel/jinja/value.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"

namespace bezel::jinja {
namespace {

constexpr int kMaxDepth = 500;
constexpr std::size_t kMaxWeight = 4u << 20;

// Counts `part` as held by `object`.
void hold(Object& object, const Value& part) {
  if (part.depth() >= kMaxDepth) throw Error("lists and dicts are nested more than ", kMaxDepth, " deep");
  object.depth = std::max(object.depth, part.depth() + 1);
  object.weight += part.weight();
  if (object.weight > kMaxWeight) throw Error("a list or dict holds more than ", kMaxWeight, " values");
}

std::shared_ptr<ListObject> list_object(std::vector<Value> items) {
  auto object = std::make_shared<ListObject>();
  for (const Value& item : items) hold(*object, item);
  object->items = std::move(items);
  return object;
}

}  // namespace

Value Value::of(Kind kind, std::shared_ptr<Object> object) {
  Value value;
  value.kind_ = kind;
  value.object_ = std::move(object);
  return value;
}

Value Value::none() { return of(Kind::kNone, nullptr); }

Value Value::boolean(bool value) {
  Value out = of(Kind::kBoolean, nullptr);
  out.integer_ = value ? 1 : 0;
  return out;
}

Value Value::integer(std::int64_t value) {
  Value out = of(Kind::kInteger, nullptr);
  out.integer_ = value;
  return out;
}

Value Value::real(double value) {
  Value out = of(Kind::kFloat, nullptr);
  out.real_ = value;
  return out;
}

Value Value::string(TracedText text, bool markup) {
  auto object = std::make_shared<StringObject>();
  object->weight = 1 + text.size() / 16;
  object->text = std::move(text);
  object->markup = markup;
  return of(Kind::kString, std::move(object));
}

Value Value::big_integer(std::string digits) {
  Value out = string(TracedText(digits, {}));
  out.kind_ = Kind::kBigInteger;
  return out;
}

Value Value::undefined(std::string hint) {
  Value out = string(TracedText(hint, {}));
  out.kind_ = Kind::kUndefined;
  return out;
}

Value Value::list(std::vector<Value> items) { return of(Kind::kList, list_object(std::move(items))); }
Value Value::tuple(std::vector<Value> items) { return of(Kind::kTuple, list_object(std::move(items))); }

const std::vector<Value>& Value::items() const { return static_cast<const ListObject*>(object_.get())->items; }

std::size_t DictObject::index_of(const Value& key) const {
  if (key.is_string()) {
    const auto found = strings_.find(key.bytes());
    return found == strings_.end() ? items_.size() : found->second;
  }
  const auto found = std::find_if(items_.begin(), items_.end(),
                                  [&](const Item& item) { return !item.first.is_string() && equal(item.first, key); });
  return static_cast<std::size_t>(found - items_.begin());
}

const Value* DictObject::find(const Value& key) const {
  const std::size_t i = index_of(key);
  return i == items_.size() ? nullptr : &items_[i].second;
}

const Value* DictObject::find(std::string_view key) const {
  const auto found = strings_.find(std::string(key));
  return found == strings_.end() ? nullptr : &items_[found->second].second;
}

void DictObject::set(Value key, Value value) {
  hold(*this, key);
  hold(*this, value);
  const std::size_t i = index_of(key);
  if (i < items_.size()) {
    items_[i].second = std::move(value);
    return;
  }
  if (key.is_string()) strings_.emplace(key.bytes(), i);
  items_.emplace_back(std::move(key), std::move(value));
}

std::string_view type_name(const Value& value) {
  constexpr std::string_view kNames[] = {"Undefined", "NoneType",  "bool",     "int",        "int",       "float",
                                         "str",       "list",      "tuple",    "dict",       "dict_view", "range",
                                         "Namespace", "generator", "function", "LoopContext"};
  return value.is_markup() ? "Markup" : kNames[static_cast<std::size_t>(value.kind())];
}

}  // namespace bezel::jinja
