#pragma once

#include <ATen/core/Generator.h>

namespace bezel::simulated {

/// The CPU's generator behind one of the simulated device, and behind its default one.
at::Generator numbers_of(const at::Generator& generator);
at::Generator default_numbers();

}  // namespace bezel::simulated
