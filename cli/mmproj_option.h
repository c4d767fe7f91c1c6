#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace bezel::cli {

/// Adds `--mmproj`, the file of the towers of a --model that is a GGUF file.
inline void add_mmproj_option(CLI::App& command, std::string& mmproj) {
  command.add_option("--mmproj", mmproj, "GGUF file with the towers of a GGUF file (default: the one beside it)");
}

}  // namespace bezel::cli
