#pragma once

#include <CLI/CLI.hpp>

namespace bezel::cli {

/// Lets every option of a subcommand that takes a path read "~" as the home folder, and those that take a model read
/// names of the Hugging Face hub that are in the local cache (io/hub_cache.h).
void read_paths(CLI::App& app);

}  // namespace bezel::cli
