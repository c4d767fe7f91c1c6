#pragma once

#include <string_view>

namespace bezel::report {

/// The style sheet of report.html: light, dark, narrow and printed.
std::string_view style_sheet();

/// The script of report.html: the reading under the pointer, and details opened for print. The page is complete
/// without it.
std::string_view page_script();

}  // namespace bezel::report
