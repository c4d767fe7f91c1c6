#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/quant/gguf_part.h"

namespace bezel::lora {

/// Puts the adapters that are attached to `model` into the parts of their matrices: W + scale * B A in float32, which
/// is then written as the part's type. Returns how many. Throws Error naming a layer whose matrix is not in any of
/// `parts`.
std::int64_t merge_into(torch::nn::Module& model, const std::vector<quant::GgufPart*>& parts);

}  // namespace bezel::lora
