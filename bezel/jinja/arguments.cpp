#include "bezel/jinja/arguments.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/compare.h"

namespace bezel::jinja {

Bound::Bound(std::string_view function, Arguments arguments, std::vector<std::string_view> parameters,
             std::size_t required)
    : function_(function), parameters_(std::move(parameters)), values_(parameters_.size()) {
  if (arguments.positional.size() > values_.size())
    throw Error(function_, "() takes at most ", values_.size(), " arguments, got ", arguments.positional.size());
  std::move(arguments.positional.begin(), arguments.positional.end(), values_.begin());
  for (auto& [name, value] : arguments.named) {
    const auto place = std::find(parameters_.begin(), parameters_.end(), name);
    if (place == parameters_.end()) throw Error(function_, "() has no argument '", name, "'");
    auto& slot = values_[static_cast<std::size_t>(place - parameters_.begin())];
    if (slot) throw Error(function_, "() gets its argument '", name, "' twice");
    slot = std::move(value);
  }
  for (std::size_t i = 0; i < required; ++i)
    if (!values_[i]) throw Error(function_, "() needs its argument '", parameters_[i], "'");
}

void Bound::fail(std::size_t i, std::string_view expected) const {
  const Value& value = *values_[i];
  if (value.is_undefined()) throw Error(value.bytes());
  throw Error(function_, "(): argument '", parameters_[i], "' is a ", type_name(value), ", expected ", expected);
}

bool Bound::flag(std::size_t i) const { return has(i) && truth(*values_[i]); }

std::int64_t Bound::integer(std::size_t i) const {
  if (!values_[i]->is_integral()) fail(i, "a whole number");
  return values_[i]->as_integer();
}

const TracedText& Bound::text(std::size_t i) const {
  if (!values_[i]->is_string()) fail(i, "a string");
  return values_[i]->text();
}

}  // namespace bezel::jinja
