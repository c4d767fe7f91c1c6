#pragma once

#include <span>
#include <string>

namespace bezel::report {

/// `values` as at most `width` block characters, from the least "▁" to the greatest "█"; each shows the mean of
/// its stretch. What is not finite is left out; "" when nothing is left.
std::string sparkline(std::span<const double> values, std::size_t width);

}  // namespace bezel::report
