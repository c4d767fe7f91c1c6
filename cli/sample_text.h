#pragma once

#include <string>

#include "bezel/report/sample_view.h"

namespace bezel::cli {

/// A sample as text for a terminal: its sizes, what the model reads with the part that carries loss in color or
/// between marks, what was cut off, and its tokens. Long samples are shortened in the middle unless `whole`.
std::string sample_text(const report::SampleView& view, bool color, bool whole);

}  // namespace bezel::cli
