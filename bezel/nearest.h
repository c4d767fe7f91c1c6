#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bezel {

/// Levenshtein's distance in bytes.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the fewest edits (Levenshtein's distance) from `name`: at most two, or a third of its letters.
/// "" when no name is that near.
std::string nearest_name(std::string_view name, const std::vector<std::string_view>& candidates);

}  // namespace bezel
