#pragma once

#include <string>

namespace bezel::cli {

/// One line for each key of a training config.
std::string train_keys_help();

}  // namespace bezel::cli
