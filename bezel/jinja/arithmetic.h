#pragma once

#include <string>

#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// left operation right for + - * / // % and **, of numbers, texts, lists and tuples as in Python. Throws Error for
/// other types, division by zero and integers beyond 64 bits.
Value arithmetic(Runtime& runtime, const std::string& operation, const Value& left, const Value& right);

/// -value or +value.
Value signed_number(const std::string& sign, const Value& value);

}  // namespace bezel::jinja
