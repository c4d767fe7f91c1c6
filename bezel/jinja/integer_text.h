#pragma once

#include <string>

#include "bezel/jinja/value.h"

namespace bezel::jinja {

/// The integer that `digits` write: decimal, or with 0x, 0o or 0b in front; a '-' may come first. Throws Error for
/// other bases beyond 64 bits.
Value read_integer(const std::string& digits);

}  // namespace bezel::jinja
