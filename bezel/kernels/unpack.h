#pragma once

#include <torch/types.h>

#include "bezel/io/gguf_types.h"

namespace bezel::kernels {

/// Rows of packed blocks as a GGUF file holds them, uint8 [N, bytes of a row] -> their values [N, columns] in `dtype`:
/// those of ggml's dequantize_row_* in float32, then rounded to `dtype`. Reference: gguf.quants.dequantize.
torch::Tensor unpack(const torch::Tensor& rows, io::GgufType type, torch::ScalarType dtype);

/// The same in ATen's operators, on any device; the reference for its test.
torch::Tensor unpack_plain(const torch::Tensor& rows, io::GgufType type, torch::ScalarType dtype);

/// Whether every scale of these blocks is a finite number; then every value is.
bool has_finite_scales(const torch::Tensor& rows, io::GgufType type);

}  // namespace bezel::kernels
