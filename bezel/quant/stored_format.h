#pragma once

#include <cstdint>

#include "bezel/io/json.h"

namespace bezel::quant {

/// How a checkpoint says that its matrices are quantized (config.json: quantization_config).
struct StoredFormat {
  enum class Method { kNone, kBitsandbytes, kCompressedTensors };
  Method method = Method::kNone;
  int num_bits = 0;  ///< compressed-tensors only: 4 or 8
};

/// Reads quantization_config of a config.json. Throws Error naming the key for a method that is not read (known ones:
/// bitsandbytes; compressed-tensors with symmetric whole numbers of 4 or 8 bits and no quantized activations).
StoredFormat read_stored_format(const io::JsonView& config);

/// The part of bitsandbytes' quant_state that is no tensor (`….quant_state.bitsandbytes__nf4`, JSON as bytes).
struct QuantState {
  std::string quant_type;           ///< "nf4" or "fp4"
  std::int64_t block_size = 64;     ///< blocksize
  std::string dtype;                ///< of the matrix that was quantized, such as "bfloat16"
  std::vector<std::int64_t> shape;  ///< of the matrix that was quantized
  bool nested = false;
  std::int64_t nested_block_size = 256;
  double nested_offset = 0.0;
};

/// Parses a quant_state; `source` names it in errors. Throws Error for missing keys, other types, and values that
/// cannot be.
QuantState read_quant_state(std::string_view json, const std::string& source);

}  // namespace bezel::quant
