#include "bezel/jinja/runtime.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/loop.h"
#include "bezel/jinja/print.h"
#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

constexpr std::size_t kBytesPerStep = 16;

Value tuple_of_item(const DictObject::Item& item) { return Value::tuple({item.first, item.second}); }

std::function<std::optional<Value>()> iterate_items(Value dict, ViewObject::Part part) {
  return [dict = std::move(dict), part, i = std::size_t{0}]() mutable -> std::optional<Value> {
    const auto& items = dict.as<DictObject>().items();
    if (i == items.size()) return std::nullopt;
    const auto& item = items[i++];
    if (part == ViewObject::Part::kItems) return tuple_of_item(item);
    return part == ViewObject::Part::kKeys ? item.first : item.second;
  };
}

std::function<std::optional<Value>()> iterate_characters(Value text) {
  return [text = std::move(text), at = std::size_t{0}]() mutable -> std::optional<Value> {
    if (at == text.text().size()) return std::nullopt;
    const std::size_t begin = at;
    at += code_point_at(text.bytes(), at).bytes;
    return Value::string(text.text().substr(begin, at));
  };
}

}  // namespace

Runtime::~Runtime() {
  for (const auto& cleanup : cleanups_) cleanup();
}

void Runtime::spend(std::size_t steps) {
  steps_ += steps;
  if (steps_ > limits_.max_steps) throw Error("the template takes more than ", limits_.max_steps, " steps");
}

void Runtime::check_text(std::size_t bytes) const {
  if (bytes > limits_.max_text_bytes)
    throw Error("the template makes a text of more than ", limits_.max_text_bytes, " bytes");
}

void Runtime::spend_text(std::size_t bytes) {
  check_text(bytes);
  spend(1 + bytes / kBytesPerStep);
}

void Runtime::spend_repeated(std::size_t count, std::size_t bytes_each) {
  if (bytes_each > 0 && count > limits_.max_text_bytes / bytes_each) spend_text(limits_.max_text_bytes + 1);
  spend_text(count * bytes_each);
}

Value Runtime::string(TracedText text, bool markup) {
  spend_text(text.size());
  return Value::string(std::move(text), markup);
}

TracedText Runtime::text_of(const Value& value) {
  if (!value.is_string()) spend(value.weight());
  TracedText text = to_text(value, owner);
  spend_text(text.size());
  return text;
}

Runtime::Nesting::Nesting(Runtime& runtime) : runtime_(runtime) {
  if (runtime_.depth_ >= runtime_.limits_.max_depth)
    throw Error("calls and loops of the template are nested more than ", runtime_.limits_.max_depth, " deep");
  ++runtime_.depth_;
}

bool is_iterable(const Value& value) {
  constexpr Kind kOthers[] = {Kind::kNone,  Kind::kBoolean,   Kind::kInteger, Kind::kBigInteger,
                              Kind::kFloat, Kind::kNamespace, Kind::kCallable};
  return std::find(std::begin(kOthers), std::end(kOthers), value.kind()) == std::end(kOthers);
}

std::function<std::optional<Value>()> iterate(Runtime& runtime, const Value& value) {
  runtime.spend(1);
  switch (value.kind()) {
    case Kind::kUndefined:
      return [] { return std::nullopt; };
    case Kind::kString:
      return iterate_characters(value);
    case Kind::kList:
    case Kind::kTuple:
      return [value, i = std::size_t{0}]() mutable {
        return i < value.items().size() ? std::optional(value.items()[i++]) : std::nullopt;
      };
    case Kind::kDict:
      return iterate_items(value, ViewObject::Part::kKeys);
    case Kind::kView:
      return iterate_items(value.as<ViewObject>().dict, value.as<ViewObject>().part);
    case Kind::kRange:
      return [value, i = std::int64_t{0}]() mutable -> std::optional<Value> {
        const auto& range = value.as<RangeObject>();
        return i < range.size ? std::optional(Value::integer(range.begin + range.step * i++)) : std::nullopt;
      };
    case Kind::kIterator:
      return [value] { return value.as<IteratorObject>().next(); };
    case Kind::kLoop:
      return [value] { return value.as<LoopObject>().advance(); };
    default:
      throw Error("a ", type_name(value), " cannot be iterated over");
  }
}

std::vector<Value> list_of(Runtime& runtime, const Value& value) {
  std::vector<Value> out;
  const auto next = iterate(runtime, value);
  while (std::optional<Value> item = next()) {
    runtime.spend(1);
    out.push_back(std::move(*item));
  }
  return out;
}

std::size_t length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString: {
      const std::string& bytes = value.bytes();
      return static_cast<std::size_t>(std::count_if(
          bytes.begin(), bytes.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    }
    case Kind::kList:
    case Kind::kTuple:
      return value.items().size();
    case Kind::kDict:
      return value.as<DictObject>().items().size();
    case Kind::kView:
      return length_of(value.as<ViewObject>().dict);
    case Kind::kRange:
      return static_cast<std::size_t>(value.as<RangeObject>().size);
    case Kind::kLoop:
      return static_cast<std::size_t>(value.as<LoopObject>().length());
    default:
      throw Error("a ", type_name(value), " has no length");
  }
}

Value generator(std::function<std::optional<Value>()> next, int depth) {
  constexpr int kMaxChain = 200;
  if (depth >= kMaxChain) throw Error("iterators are chained more than ", kMaxChain, " deep");
  auto object = std::make_shared<IteratorObject>();
  object->depth = depth + 1;
  object->next = std::move(next);
  return Value::of(Kind::kIterator, std::move(object));
}

Value callable(std::string name, std::function<Value(Runtime&, Arguments)> function) {
  auto object = std::make_shared<CallableObject>();
  object->name = std::move(name);
  object->call = std::move(function);
  return Value::of(Kind::kCallable, std::move(object));
}

Value call(Runtime& runtime, const Value& callee, Arguments arguments) {
  const Runtime::Nesting nesting(runtime);
  if (callee.is_undefined()) throw Error(callee.bytes());
  if (callee.is(Kind::kLoop)) return callee.as<LoopObject>().recurse(arguments);
  if (!callee.is(Kind::kCallable)) throw Error("a ", type_name(callee), " cannot be called");
  return callee.as<CallableObject>().call(runtime, std::move(arguments));
}

}  // namespace bezel::jinja
