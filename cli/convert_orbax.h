#pragma once

#include <string>

#include "bezel/gemma4/orbax_convert.h"

namespace bezel::cli {

/// Writes the Hugging Face checkpoint of an Orbax checkpoint, and lists on stderr which arrays it leaves
/// out.
void convert_orbax(const gemma4::OrbaxOptions& options, const std::string& output);

}  // namespace bezel::cli
