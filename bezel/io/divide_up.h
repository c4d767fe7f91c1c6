#pragma once

#include <cstdint>

namespace bezel::io {

/// How many blocks of `by` elements hold `value` of them; value >= 0, by > 0.
constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

}  // namespace bezel::io
