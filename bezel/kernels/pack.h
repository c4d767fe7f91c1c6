#pragma once

#include <torch/types.h>

#include "bezel/io/gguf_types.h"

namespace bezel::kernels {

/// Packs x (float32 [N, K] on the CPU, finite, K whole blocks) as a GGUF file holds rows: uint8 [N, bytes of a row].
/// The bytes are those of ggml's quantizers without an importance matrix, which are the reference for its test; their
/// searches take sums value by value, so there is no form in ATen's operators.
/// Throws for a type that can_pack denies.
torch::Tensor pack(const torch::Tensor& x, io::GgufType type);

/// Whether pack writes this type: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K.
bool can_pack(io::GgufType type);

}  // namespace bezel::kernels
