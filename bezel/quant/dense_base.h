#pragma once

#include <string>

#include "bezel/io/json.h"

namespace bezel::quant {

/// "take …": which checkpoint to use instead of a quantized one that is not read, for an error message. `config` is its
/// config.json; names the base that the model card beside it, `_name_or_path` or the model's size give.
std::string take_dense_base(const io::JsonView& config);

}  // namespace bezel::quant
