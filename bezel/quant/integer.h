#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bezel/quant/weight.h"

namespace bezel::quant {

/// A matrix [out, in], or a stack [experts, out, in], of whole numbers with scales: code * scale * factor.
struct IntegerMatrix {
  std::vector<std::int64_t> shape;
  std::int64_t group_size = 0;  ///< elements of a row that share a scale; `in` for one scale a row
  int bits = 8;                 ///< 8: one code an element; 4: two a byte, the earlier one in the lower half
  std::int64_t zero = 0;        ///< what is taken off a stored code: 0 for int8, 8 for packed 4 bits, 128 for packed 8
  torch::Tensor codes;          ///< int8 or uint8 [rows, in * bits / 8], rows of a stack counted through
  torch::Tensor scales;         ///< floating [rows, in / group_size]
  float factor = 1.0f;          ///< bitsandbytes keeps absmax, not absmax / 127
  torch::ScalarType value_dtype = torch::kFloat;  ///< values are rounded to this before anything else
};

/// One scale a row, the row's absmax, and codes -127 … 127. QuantizedMatrix, scales and values are those of
/// bitsandbytes 0.50.2 (int8_vectorwise_quant, int8_vectorwise_dequant) bit for bit; a row of zeros gets codes 0. Works
/// row by row.
IntegerMatrix quantize_int8(const torch::Tensor& matrix);

/// All values in value_dtype, in the matrix's shape.
torch::Tensor dequantize(const IntegerMatrix& matrix);

/// A weight over these codes. Throws Error naming `name` when sizes do not fit the shape or a scale is no finite
/// number.
std::shared_ptr<const Weight> integer_weight(IntegerMatrix matrix, const std::string& name);

}  // namespace bezel::quant
