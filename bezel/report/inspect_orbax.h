#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::report {

/// What a checkpoint of Orbax holds, as JSON: arrays, tensors, parameters and bytes by tower, shapes and storage types,
/// arrays that are not used, the released size that its shapes are of ("" for any other), and `converts`: whether
/// `bezel convert` can make a checkpoint of it, by `config`, a config.json, or by the size's own; null when there is
/// neither. Reads what describes the arrays, and the values of scales that are not used. Throws Error as
/// io::ZarrStore::open and io::ZarrArray::open do.
io::Json inspect_orbax(const std::string& folder, const std::string& config = "");

}  // namespace bezel::report
