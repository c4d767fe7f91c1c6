#pragma once

#include <string>
#include <vector>

#include "bezel/report/history.h"

namespace bezel::report {

/// Clip saturation: for each tower a heat map of its layers and projections, at each time of `tables` beside one
/// another, and the bounds that clamp most as a table. "" when nothing is clipped.
std::string clips_html(const std::vector<ClipTable>& tables);

/// How strongly a share is colored, 0 (nothing is clamped) to 6 (half and more).
int heat_level(double share);

}  // namespace bezel::report
