#pragma once

#include <string>

#include "bezel/train/config.h"

namespace bezel::train {

/// What of `config` keeps the samples of an update from sharing what they begin alike by: random numbers that are drawn
/// anew for each. A sentence; "" where nothing is in the way.
std::string prefix_obstacle(const TrainConfig& config);

}  // namespace bezel::train
