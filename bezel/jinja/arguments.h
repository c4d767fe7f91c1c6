#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// Arguments of a call, put into the order of its parameters.
class Bound {
 public:
  /// Throws Error when an argument is unknown, given twice, one too many or missing; `required` count from the front.
  Bound(std::string_view function, Arguments arguments, std::vector<std::string_view> parameters, std::size_t required);

  bool has(std::size_t i) const { return values_[i].has_value(); }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  Value get(std::size_t i, Value otherwise) const { return has(i) ? *values_[i] : otherwise; }
  /// Whether the argument is given and not None.
  bool given(std::size_t i) const { return has(i) && !values_[i]->is(Kind::kNone); }
  /// Whether the argument is given and true, as Python sees it.
  bool flag(std::size_t i) const;
  /// The argument as a whole number or a string; throws Error when it is something else.
  std::int64_t integer(std::size_t i) const;
  const TracedText& text(std::size_t i) const;

 private:
  [[noreturn]] void fail(std::size_t i, std::string_view expected) const;

  std::string function_;
  std::vector<std::string_view> parameters_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace bezel::jinja
