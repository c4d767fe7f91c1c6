#pragma once

#include <torch/types.h>

#include "bezel/kernels/tiled_gemm.h"

namespace bezel::kernels {

/// What 4-bit codes mean: `table` float32 [16], times the scale of the block of `block` elements that a code is in.
struct FourBitFormat {
  torch::Tensor table;
  std::int64_t block = 64;
  torch::ScalarType value_dtype = torch::kFloat;  ///< each value is rounded to this before anything else
};

/// Elements [first, first + count) of a matrix in 4-bit codes -> [count] in `dtype`. packed uint8, two codes a byte,
/// the earlier one in the upper half; scales float32, those of the blocks from block `first / block` on. Reference:
/// bitsandbytes' dequantize_4bit.
torch::Tensor dequantize_4bit(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                              std::int64_t count, const FourBitFormat& format, torch::ScalarType dtype);

/// The same in ATen's operators, on any device; the reference for its test.
torch::Tensor dequantize_4bit_plain(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                                    std::int64_t count, const FourBitFormat& format, torch::ScalarType dtype);

/// Windows of a matrix of `columns` that begins at element `first`; arguments as there. Empty where rows are no whole
/// blocks, or values no bfloat16 when they are rounded to it once.
MakeWindow windows_4bit(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                        std::int64_t columns, const FourBitFormat& format);

/// Whether gemv_4bit takes them: x bfloat16 [1, K] of whole blocks of 64, on the CPU.
bool has_gemv_4bit(const torch::Tensor& x, const torch::Tensor& packed, const FourBitFormat& format);

/// x · wᵀ -> bfloat16 [1, rows], where w [rows, K] are the elements from `first` on, each rounded to bfloat16 as
/// dequantize_4bit rounds it. Sums in float32, rounded once. Arguments as there.
torch::Tensor gemv_4bit(const torch::Tensor& x, const torch::Tensor& packed, const torch::Tensor& scales,
                        std::int64_t first, std::int64_t rows, const FourBitFormat& format);

}  // namespace bezel::kernels
