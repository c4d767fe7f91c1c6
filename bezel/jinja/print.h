#pragma once

#include <string>
#include <string_view>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// repr() of a float: the shortest digits that read back as the same number, such as 1e-07, 1e+16 and 3.0.
std::string float_text(double value);

/// repr(value). Throws Error for functions and iterators, which Python prints with their address.
std::string repr(const Value& value);

/// str(value): a string as it is; the text of anything else with the value's origin, or with `owner` where it has no
/// origin.
TracedText to_text(const Value& value, Origin owner);

}  // namespace bezel::jinja
