#pragma once

#include <string>

#include "bezel/gemma4/orbax_convert.h"

namespace bezel::cli {

/// Writes the Hugging Face checkpoint that an Orbax checkpoint stands for, and says on stderr which arrays it leaves
/// out.
void convert_orbax(const gemma4::OrbaxOptions& options, const std::string& output);

}  // namespace bezel::cli
