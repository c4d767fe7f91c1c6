#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::gemma4 {

/// Shapes of a checkpoint's arrays by their names as normal_orbax_name spells them.
using OrbaxShapes = std::map<std::string, std::vector<std::int64_t>>;

/// The released size (E2B, E4B, 26B-A4B, 31B) with that many layers of that width; "" for any other.
std::string orbax_size(const OrbaxShapes& shapes);

/// config.json of one of the four released sizes (E2B, E4B, 26B-A4B, 31B), in the released form. Sizes come from the
/// shapes; what no shape says (window, context, shared layers, special tokens) from the size, known by layers and
/// width. Towers that the checkpoint does not hold are null. Throws Error naming `source` for any other size.
io::Json orbax_config(const OrbaxShapes& shapes, const std::string& source);

}  // namespace bezel::gemma4
