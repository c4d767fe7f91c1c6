#pragma once

#include <string>

#include "bezel/report/history.h"

namespace bezel::report {

/// report.html: one page that needs no other file and no network. During the run it reloads itself every
/// few seconds.
std::string render_html(const RunHistory& history);

}  // namespace bezel::report
