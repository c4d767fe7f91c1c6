#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bezel::report {

/// `text` for HTML, in elements and in quoted attributes; bytes that are no UTF-8 become U+FFFD.
std::string escaped(std::string_view text);

/// The question of a rendered prompt, for people: the text of its last user turn, or all of it where it has no turns,
/// with [image] and [audio clip] in the places of media.
std::string asked_text(std::string_view prompt);

/// A number with about `digits` significant digits and no needless zeros: "0.123", "1.2e-05", "12,345"; "–" for NaN.
std::string number_text(double value, int digits = 4);
/// 1234567 as "1,234,567".
std::string count_text(std::int64_t value);
/// A share as "0 %", "0.012 %", "37 %"; below 0.001 % as "< 0.001 %".
std::string percent_text(double share);
/// "3.2 s", "4 min 12 s", "5 h 03 min".
std::string duration_text(double seconds);
/// "812 MiB", "3.42 GiB".
std::string memory_text(double bytes);

}  // namespace bezel::report
