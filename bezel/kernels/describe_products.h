#pragma once

#include <string>

namespace bezel::kernels {

/// What multiplies bfloat16 matrices of several rows here: "tile units", "tile units, by LibTorch", "bfloat16 dot
/// products", or "float32"; with the reason behind it where tile units stay unused or are left to LibTorch.
std::string describe_products();

}  // namespace bezel::kernels
