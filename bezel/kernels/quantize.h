#pragma once

#include <torch/types.h>

namespace bezel::kernels {

/// Codes of a 4-bit type and what a block's elements are scaled by.
struct FourBitCodes {
  torch::Tensor packed;  ///< uint8 [elements / 2], the earlier code in the upper half
  torch::Tensor scales;  ///< float32 [blocks]: the largest magnitude of each; NaN where an element is
};

/// Puts x (float32 [elements], whole blocks of an even number of elements) into codes. A value over its block's scale
/// falls between two of `bounds` (float32 [15], ascending): its code is order[bounds below it], order uint8 [16].
/// Reference: bitsandbytes' quantize_4bit on the CPU.
FourBitCodes quantize_4bit(const torch::Tensor& x, std::int64_t block, const torch::Tensor& bounds,
                           const torch::Tensor& order);

/// The same in ATen's operators; the reference for its test.
FourBitCodes quantize_4bit_plain(const torch::Tensor& x, std::int64_t block, const torch::Tensor& bounds,
                                 const torch::Tensor& order);

}  // namespace bezel::kernels
