#pragma once

#include <cstdint>

#include "bezel/data/av_input.h"

namespace bezel::data {

/// Throws Error where the headers of a file say that it should be longer than it is: FFmpeg reads what there is, and a
/// clip cut off while it was copied would only be a shorter one. `seen` packets were read. Knows MP4 and MOV, AVI, and
/// Matroska and WebM whose size was written.
void check_whole(AvInput& input, std::int64_t seen);

}  // namespace bezel::data
