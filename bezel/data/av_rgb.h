#pragma once

#include <string>

#include "bezel/data/image_decode.h"

struct AVFrame;

namespace bezel::data {

/// A decoded frame as RGB, by swscale: BT.601, BT.709 or BT.2020 and limited or full range as the frame says, BT.601
/// limited where it says nothing. Throws Error starting with `name` where its pixel format is not known.
RgbImage to_rgb(const AVFrame& frame, const std::string& name);

}  // namespace bezel::data
