#pragma once

#include <string>

namespace bezel::cli {

/// Text that may come from a file, fit for a terminal: control characters as \xNN, and cut after 16,000 bytes.
std::string one_line(const std::string& text);

}  // namespace bezel::cli
