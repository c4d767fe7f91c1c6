#pragma once

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// bool(value).
bool truth(const Value& value);

/// left == right.
bool equal(const Value& left, const Value& right);

/// left < right. Throws Error for types that Python does not order.
bool less(const Value& left, const Value& right);

/// Whether Python can hash the value, so that it may be a key of a dict.
bool is_hashable(const Value& value);

}  // namespace bezel::jinja
