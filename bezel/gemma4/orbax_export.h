#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/gemma4/orbax_arrays.h"
#include "bezel/io/safetensors.h"
#include "bezel/quant/gguf_part.h"

namespace bezel::gemma4 {

/// A checkpoint of Orbax to write: its arrays, and the tensors that they are made of.
struct OrbaxExport {
  ModelConfig config;
  std::vector<OrbaxArray> arrays;
  std::vector<quant::GgufPart> parts;  ///< by canonical name, as their matrices are read
  std::vector<std::string> warnings;   ///< as LoadedModel has them
};

/// Plans the form of Google's JAX releases for `model`, a dense checkpoint folder of Gemma 4. Checks that it is
/// complete, as load_model does. Throws Error naming the layer whose matrix is quantized, and for models that this form
/// does not hold: GGUF files, Gemma 3, the 12B, and a head that is not tied to the embeddings.
OrbaxExport plan_orbax_export(const std::string& model);

struct OrbaxWritten {
  std::int64_t arrays = 0;
  std::int64_t elements = 0;
  std::vector<std::string> zeros;  ///< arrays of keys and values that the model does not compute and the folder lacks
  std::vector<std::string> left_out;  ///< tensors that the model does not compute and the form has no place for
};

/// Writes the new folder `output`, whole or not at all, an array at a time. `dtype`: float32 or bfloat16; nothing: as
/// stored, of float16 float32. Throws Error naming a layer whose clip bounds one einsum cannot hold (those of k and v,
/// of gate and up, are one in this form), and for values that are not finite; Error (kConfig) when `output` exists.
OrbaxWritten write_orbax(const OrbaxExport& made, std::optional<io::DType> dtype, const std::string& output);

}  // namespace bezel::gemma4
