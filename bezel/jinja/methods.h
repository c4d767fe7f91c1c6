#pragma once

#include <optional>
#include <string>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// value.name of a str, dict, list or tuple: a bound method; undefined (with the reason) for one that the sandbox keeps
/// from templates; nothing where Python has no such method. Throws Error for a method that Python has and Bezel not.
std::optional<Value> find_method(const Value& value, const std::string& name);

/// The methods of str alone; nothing where there is no such method.
std::optional<Value> find_string_method(const Value& value, const std::string& name);

}  // namespace bezel::jinja
