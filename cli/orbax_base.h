#pragma once

#include "bezel/train/config.h"

namespace bezel::cli {

/// Where base_model is a checkpoint of Orbax, puts the checkpoint that convert_to holds in its place, converting it
/// first unless that was done before; says so on stderr. Throws Error (kConfig) when the keys for it are missing, or
/// given for another base_model.
void use_converted_base(train::TrainConfig& config);

}  // namespace bezel::cli
