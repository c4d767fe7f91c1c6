#pragma once

#include <cstdint>

#include "bezel/io/gguf_types.h"

namespace bezel::kernels {

/// Quantizes the values of one block into the bytes that a GGUF file has for it. The values must be finite.
using PackBlock = void (*)(const float* x, std::uint8_t* out);

/// The quantizer of `type`, which must be packed; its bytes are those of ggml's quantize_row_*_ref without an
/// importance matrix, bit for bit.
PackBlock block_packer(io::GgufType type);

/// The same for the types whose blocks have blocks of their own inside: Q4_K, Q5_K, Q6_K.
PackBlock superblock_packer(io::GgufType type);

/// Writes `value` as float16, rounded to nearest even; returns what was written.
float put_half(float value, std::uint8_t* out);

/// The value of largest magnitude among `count` values, the first of several; 0 where all are 0.
float extreme_of(const float* x, int count);

/// The nearest whole number, ties to even, of |x| < 2^22; without a call, so that loops stay loops.
inline int nearest_whole(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
  return static_cast<int>((x + kShift) - kShift);
}

}  // namespace bezel::kernels
