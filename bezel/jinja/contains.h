#pragma once

#include <string>

#include "bezel/jinja/runtime.h"

namespace bezel::jinja {

/// Whether `item in container`.
bool contains(Runtime& runtime, const Value& container, const Value& item);

/// left operation right for == != < <= > >= in and "not in".
bool compare(Runtime& runtime, const std::string& operation, const Value& left, const Value& right);

}  // namespace bezel::jinja
