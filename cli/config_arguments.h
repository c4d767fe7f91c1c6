#pragma once

#include <string>
#include <vector>

#include "bezel/train/config.h"
#include "cli/command.h"

namespace bezel::cli {

/// Of the arguments `[CONFIG.yaml] [--key value …]`.
train::TrainConfig config_of(std::vector<std::string> arguments);

/// Lets `command` take such arguments, and flags of its own among them, and hand them to `run`, which returns the exit
/// code. Keys are no options of CLI11's: the config's own table knows them, their aliases and both spellings.
void run_with_config_keys(CLI::App& command, int& status, int (*run)(std::vector<std::string> arguments));

}  // namespace bezel::cli
