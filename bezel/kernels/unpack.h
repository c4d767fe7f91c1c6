#pragma once

#include <torch/types.h>

#include "bezel/io/gguf_types.h"

namespace bezel::kernels {

/// Rows of packed blocks as a GGUF file holds them, uint8 [N, bytes of a row] -> their values [N, columns] in `dtype`:
/// those of ggml's dequantize_row_* in float32, then rounded to `dtype`. Reference: gguf.quants.dequantize.
torch::Tensor unpack(const torch::Tensor& rows, io::GgufType type, torch::ScalarType dtype);

/// Whether packed_product takes x: bfloat16 [1, K], on the CPU, as the rows are.
bool has_packed_product(const torch::Tensor& x, const torch::Tensor& rows);

/// x · wᵀ -> bfloat16 [1, N] for rows of packed blocks [N, bytes of a row]: the product of a token that is written
/// alone, whose cost is reading w. Values and sums in float32, rounded once; products of more rows round
/// the values to bfloat16, which is the only difference between one row and several.
torch::Tensor packed_product(const torch::Tensor& x, const torch::Tensor& rows, io::GgufType type);

/// unpack in ATen's operators, on any device; the reference for its test.
torch::Tensor unpack_plain(const torch::Tensor& rows, io::GgufType type, torch::ScalarType dtype);

/// Whether every scale of these blocks is a finite number; then every value is.
bool has_finite_scales(const torch::Tensor& rows, io::GgufType type);

}  // namespace bezel::kernels
