#pragma once

#include <torch/types.h>

#include "bezel/io/gguf_types.h"

namespace bezel::kernels {

/// Packs x (float32 [N, K] on the CPU, finite, K whole blocks) as a GGUF file holds rows: uint8 [N, bytes of a row].
/// The bytes are those of ggml's quantizers without an importance matrix, which are the reference for its test; their
/// searches take sums value by value, so there is no form in ATen's operators.
torch::Tensor pack(const torch::Tensor& x, io::GgufType type);

}  // namespace bezel::kernels
