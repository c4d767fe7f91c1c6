#include "bezel/jinja/globals.h"

#include <array>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/compare.h"

namespace bezel::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100000;  // jinja2's bound

Value range(Runtime&, Arguments arguments) {
  const std::size_t given = arguments.positional.size();
  const Bound bound("range", std::move(arguments), {"start", "stop", "step"}, 1);
  auto object = std::make_shared<RangeObject>();
  object->begin = given == 1 ? 0 : bound.integer(0);
  object->end = bound.integer(given == 1 ? 0 : 1);
  object->step = given == 3 ? bound.integer(2) : 1;
  if (object->step == 0) throw Error("range() with the step 0");
  const auto distance = object->step > 0 ? static_cast<__int128>(object->end) - object->begin
                                         : static_cast<__int128>(object->begin) - object->end;
  const auto stride = object->step > 0 ? static_cast<__int128>(object->step) : -static_cast<__int128>(object->step);
  const __int128 size = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (size > kMaxRange) throw Error("range() gives more than ", kMaxRange, " numbers");
  object->size = static_cast<std::int64_t>(size);
  return Value::of(Kind::kRange, std::move(object));
}

// Sets the pairs of dict(mapping or pairs, name=value...).
void fill(Runtime& runtime, DictObject& dict, Arguments arguments, std::string_view function) {
  if (arguments.positional.size() > 1) throw Error(function, "() takes at most one value without a name");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    const auto next = iterate(runtime, source);
    while (const std::optional<Value> item = next()) {
      runtime.spend(1);
      if (source.is(Kind::kDict)) {
        dict.set(*item, *source.as<DictObject>().find(*item));
        continue;
      }
      const std::vector<Value> pair = list_of(runtime, *item);
      if (pair.size() != 2) throw Error(function, "() needs pairs, got ", pair.size(), " values");
      if (!is_hashable(pair[0])) throw Error("a ", type_name(pair[0]), " is no key of a dict");
      dict.set(pair[0], pair[1]);
    }
  }
  for (auto& [name, value] : arguments.named) dict.set(Value::string({name, {}}), std::move(value));
}

Value make_dict(Runtime& runtime, Arguments arguments) {
  auto dict = std::make_shared<DictObject>();
  fill(runtime, *dict, std::move(arguments), "dict");
  return Value::of(Kind::kDict, std::move(dict));
}

Value make_namespace(Runtime& runtime, Arguments arguments) {
  auto object = std::make_shared<NamespaceObject>();
  fill(runtime, object->attributes, std::move(arguments), "namespace");
  for (const auto& [name, value] : object->attributes.items())
    if (name.is_string() && name.bytes().starts_with("_"))
      throw Error("names that begin with '_' cannot be set in a namespace");
  // A namespace may come to hold itself.
  runtime.at_end([object] { object->attributes = {}; });
  return Value::of(Kind::kNamespace, std::move(object));
}

Value raise_exception(Runtime& runtime, Arguments arguments) {
  const Bound bound("raise_exception", std::move(arguments), {"message"}, 1);
  throw Error("the template refuses the chat: ", runtime.text_of(bound[0]).bytes());
}

Value strftime_now(Runtime& runtime, Arguments arguments) {
  const Bound bound("strftime_now", std::move(arguments), {"format"}, 1);
  const std::string& format = bound.text(0).bytes();
  if (format.size() > 200) throw Error("strftime_now(): the format has more than 200 bytes");
  if (format.empty()) return runtime.literal("");
  const std::tm now = runtime.now();
  std::array<char, 4096> out{};
  const std::size_t bytes = std::strftime(out.data(), out.size(), format.c_str(), &now);
  return runtime.literal({out.data(), bytes});
}

}  // namespace

void add_globals(Scope& scope) {
  scope.set("range", callable("range", range));
  scope.set("dict", callable("dict", make_dict));
  scope.set("namespace", callable("namespace", make_namespace));
  scope.set("raise_exception", callable("raise_exception", raise_exception));
  scope.set("strftime_now", callable("strftime_now", strftime_now));
  for (const char* name : {"lipsum", "cycler", "joiner"})
    scope.set(name, callable(name, [name](Runtime&, Arguments) -> Value { throw Error(name, "() is not supported"); }));
}

}  // namespace bezel::jinja
