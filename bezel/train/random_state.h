#pragma once

#include <torch/types.h>

#include "bezel/io/json.h"

namespace bezel::train {

/// The states of the random generators that training on `device` draws from, as text.
io::Json random_states(torch::Device device);
/// Puts them back. A generator that `json` does not have stays as it is: a run may go on on another device. Throws
/// Error when one is damaged or that of the CPU is missing.
void restore_random_states(const io::JsonView& json, torch::Device device);

}  // namespace bezel::train
