#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bezel/quant/weight.h"

namespace bezel::quant {

/// The 4-bit types of bitsandbytes: NF4 (QLoRA, arXiv:2305.14314) and FP4.
enum class FourBitType { kNf4, kFp4 };

/// The 16 values of a type, float32 [16].
torch::Tensor four_bit_table(FourBitType type);

/// Block scales in 8 bits ("double quantization"): map[code] * scales[block / block_size] + offset.
struct NestedScales {
  torch::Tensor map;     ///< float32 [256]
  torch::Tensor scales;  ///< float32 [blocks / block_size, rounded up]
  std::int64_t block_size = 256;
  float offset = 0.0f;
};

/// A matrix [out, in], or a stack [experts, out, in], as bitsandbytes stores it in 4 bits.
struct FourBit {
  FourBitType type = FourBitType::kNf4;
  std::vector<std::int64_t> shape;
  std::int64_t block_size = 64;  ///< elements that share a scale, in row-major order, across rows
  torch::Tensor packed;          ///< uint8 [(elements + 1) / 2], the earlier element in the upper half
  torch::Tensor scales;          ///< float32 [blocks], or with `nested` uint8 [blocks]
  std::optional<NestedScales> nested;
  torch::ScalarType value_dtype = torch::kFloat;  ///< dtype of the matrix that was quantized; values are rounded to it
};

/// Quantizes a floating matrix or stack. Codes and scales are those of bitsandbytes 0.50.2 on the CPU, bit for bit
/// (quantize_4bit, and quantize_blockwise over the dynamic map for the scales with `double_quant`). Works in slices.
FourBit quantize_4bit(const torch::Tensor& matrix, FourBitType type, bool double_quant);

/// All values in value_dtype, in the matrix's shape.
torch::Tensor dequantize(const FourBit& matrix);

/// A weight over these codes. Throws Error naming `name` when sizes do not fit the shape or a scale is no finite
/// number.
std::shared_ptr<const Weight> four_bit_weight(FourBit matrix, const std::string& name);

}  // namespace bezel::quant
