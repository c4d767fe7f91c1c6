#pragma once

#include <string>
#include <vector>

#include "bezel/quant/four_bit.h"
#include "bezel/quant/stored.h"

namespace bezel::quant {

/// A form in which matrices are quantized and stored: one of bitsandbytes'.
struct QuantScheme {
  enum class Kind { kFourBit, kInt8 };
  Kind kind = Kind::kFourBit;
  FourBitType type = FourBitType::kNf4;           ///< kFourBit
  bool double_quant = true;                       ///< kFourBit: block scales in 8 bits too
  torch::ScalarType value_dtype = torch::kFloat;  ///< of the matrix that was quantized, where that is stored
};

/// The form that a stored matrix has. Throws Error naming `name` for one that Bezel reads and does not write:
/// compressed-tensors, and blocks of other sizes than 64.
QuantScheme form_of(const StoredParts& parts, const std::string& name);

/// A tensor that a form stores, by its suffix after the module's name.
struct PartLayout {
  std::string suffix;
  torch::ScalarType dtype = torch::kByte;
  std::vector<std::int64_t> shape;
};

/// What a matrix of `shape` [out, in], or a stack [experts, out, in], is stored as, `weight` first. Reference:
/// QuantState.as_dict(packed=True), and Linear8bitLt's SCB.
std::vector<PartLayout> layout_of(const QuantScheme& form, const std::vector<std::int64_t>& shape);

/// The quantized matrix: tensors of exactly that layout. In 4 bits its dtype, not the form's, is what values are
/// rounded to.
StoredParts encode(const QuantScheme& form, const torch::Tensor& matrix);

}  // namespace bezel::quant
