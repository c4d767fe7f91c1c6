#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bezel/io/gguf_types.h"
#include "bezel/quant/weight.h"

namespace bezel::quant {

/// A weight of `shape` [out, in] or [experts, out, in] over packed blocks as a GGUF file holds them: `rows` uint8
/// [rows of all experts, bytes of a row], which is not copied. `name` is for errors. A scale that is no finite number
/// is an Error when the matrix is first used, or the row looked up.
std::shared_ptr<const Weight> packed_weight(torch::Tensor rows, io::GgufType type, std::vector<std::int64_t> shape,
                                            std::string name);

}  // namespace bezel::quant
