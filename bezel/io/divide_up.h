#pragma once

#include <cstdint>

namespace bezel::io {

/// How many blocks of `by` elements hold `value` of them; value >= 0, by > 0.
constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }
/// `value` rounded up to a multiple of `to`.
constexpr std::int64_t round_up(std::int64_t value, std::int64_t to) { return divide_up(value, to) * to; }

}  // namespace bezel::io
