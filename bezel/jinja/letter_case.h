#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bezel/jinja/traced_text.h"

namespace bezel::jinja {

/// str.upper(), str.lower(), str.title(), str.capitalize() and str.swapcase() of well-formed UTF-8; characters keep
/// their origin.
TracedText to_upper(const TracedText& text);
TracedText to_lower(const TracedText& text);
TracedText to_title(const TracedText& text);
TracedText capitalized(const TracedText& text);
TracedText swapped_case(const TracedText& text);

/// str.isupper() and str.islower().
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

/// str.isprintable() of one character.
bool is_printable(std::uint32_t code);

}  // namespace bezel::jinja
