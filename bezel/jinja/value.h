#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bezel/jinja/traced_text.h"

namespace bezel::jinja {

class Runtime;
class Value;

/// Types of Python values that templates meet. kBigInteger is outside of 64 bits and kept as decimal digits.
enum class Kind : std::uint8_t {
  kUndefined,
  kNone,
  kBoolean,
  kInteger,
  kBigInteger,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,
  kRange,
  kNamespace,
  kIterator,
  kCallable,
  kLoop
};

/// Base of what a Value shares.
struct Object {
  virtual ~Object() = default;
  int depth = 1;           ///< nested containers; bounds recursion over values
  std::size_t weight = 1;  ///< values inside, counted as often as they are held; bounds printing and comparing
};

struct StringObject : Object {
  TracedText text;
  bool markup = false;  ///< made by `safe` or `escape`: `+` escapes what is added to it
};

/// A Python value. Copies share lists, dicts and strings, which never change once built; namespaces do.
class Value {
 public:
  Value() = default;
  static Value none();
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value big_integer(std::string digits);
  static Value real(double value);
  static Value string(TracedText text, bool markup = false);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  /// An undefined value; `hint` explains it in errors, such as "'x' is undefined".
  static Value undefined(std::string hint);
  static Value of(Kind kind, std::shared_ptr<Object> object);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  /// Whether it is an int, a bool or a float in Python.
  bool is_number() const { return kind_ >= Kind::kBoolean && kind_ <= Kind::kFloat; }
  /// Whether it is an int or a bool that fits 64 bits.
  bool is_integral() const { return kind_ == Kind::kInteger || kind_ == Kind::kBoolean; }

  bool as_boolean() const { return integer_ != 0; }
  std::int64_t as_integer() const { return integer_; }
  double as_real() const { return real_; }
  const TracedText& text() const { return static_cast<const StringObject*>(object_.get())->text; }
  const std::string& bytes() const { return text().bytes(); }
  bool is_markup() const { return is_string() && static_cast<const StringObject*>(object_.get())->markup; }
  /// Elements of a list or tuple.
  const std::vector<Value>& items() const;
  const std::shared_ptr<Object>& object() const { return object_; }
  template <typename T>
  T& as() const {
    return *static_cast<T*>(object_.get());
  }

  const Origin& origin() const { return origin_; }
  void set_origin(Origin origin) { origin_ = origin; }
  int depth() const { return object_ == nullptr ? 0 : object_->depth; }
  std::size_t weight() const { return object_ == nullptr ? 1 : object_->weight; }

 private:
  Kind kind_ = Kind::kUndefined;
  Origin origin_;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::shared_ptr<Object> object_;
};

struct ListObject : Object {
  std::vector<Value> items;
  bool is_group = false;  ///< a tuple of `groupby`, which has the attributes grouper and list
};

/// A dict in the order of insertion.
struct DictObject : Object {
  using Item = std::pair<Value, Value>;

  /// The value of `key`, or nullptr.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Adds the key or replaces its value, as Python does: the first key and its place stay.
  void set(Value key, Value value);
  const std::vector<Item>& items() const { return items_; }

 private:
  std::size_t index_of(const Value& key) const;

  std::vector<Item> items_;
  std::unordered_map<std::string, std::size_t> strings_;  // places of string keys
};

/// What dict.keys(), dict.values() and dict.items() return.
struct ViewObject : Object {
  enum class Part { kKeys, kValues, kItems } part = Part::kKeys;
  Value dict;
};

struct RangeObject : Object {
  std::int64_t begin = 0, end = 0, step = 1, size = 0;
};

struct NamespaceObject : Object {
  DictObject attributes;
};

/// A Python iterator: each element once, made when it is asked for.
struct IteratorObject : Object {
  std::function<std::optional<Value>()> next;
};

/// Arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct CallableObject : Object {
  std::string name;
  bool is_macro = false;
  std::function<Value(Runtime&, Arguments)> call;
};

/// The name of the type in Python, such as "str".
std::string_view type_name(const Value& value);

inline bool is_list_or_tuple(const Value& value) { return value.is(Kind::kList) || value.is(Kind::kTuple); }

}  // namespace bezel::jinja
