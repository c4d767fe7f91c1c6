#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/jinja/traced_text.h"

namespace bezel::jinja {

enum class Side { kLeft, kRight, kBoth };

/// str.strip() and its kin: without the characters of `chars`, or without white space, at the ends.
TracedText stripped(const TracedText& text, Side side, std::optional<std::string_view> chars);

/// str.split() and str.rsplit(): at white space where there is no separator; a negative `most` means no bound. The
/// separator is not empty.
std::vector<TracedText> split_text(const TracedText& text, std::optional<std::string_view> separator,
                                   std::int64_t most);
std::vector<TracedText> rsplit_text(const TracedText& text, std::optional<std::string_view> separator,
                                    std::int64_t most);
/// str.splitlines().
std::vector<TracedText> split_lines(const TracedText& text, bool keep_ends);

/// str.replace(); a negative `most` means no bound.
TracedText replaced(const TracedText& text, std::string_view from, const TracedText& to, std::int64_t most);
/// How often replaced() replaces.
std::size_t count_of(std::string_view text, std::string_view part);

/// Characters of well-formed UTF-8, and the offset of character number `index`, which may be the end.
std::size_t characters_of(std::string_view text);
std::size_t offset_of(std::string_view text, std::size_t index);

}  // namespace bezel::jinja
