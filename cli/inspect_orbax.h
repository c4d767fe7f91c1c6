#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::cli {

/// Prints what report::inspect_orbax() says, and how to go on. `config`: see there.
void print_orbax(const io::Json& report, const std::string& config);

}  // namespace bezel::cli
