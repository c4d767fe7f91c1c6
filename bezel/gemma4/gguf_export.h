#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bezel/gemma4/model_files.h"
#include "bezel/quant/gguf_part.h"

namespace bezel::gemma4 {

/// A GGUF file to write: its metadata and its tensors.
struct GgufExport {
  io::NewGgufKeys keys;
  std::vector<quant::GgufPart> parts;
  std::vector<std::string> warnings;  ///< as LoadedModel has them
  std::vector<std::string>
      left_out;  ///< stored names of what is not written: codes of layers that the model does not use
};

/// Plans a GGUF file of the language model of `files`, a checkpoint folder or another GGUF file, as llama.cpp's
/// converter writes it. Without a mix a checkpoint's matrices keep the floating type that most of them have (those in
/// codes: what config.json says, else bfloat16), and tensors of a GGUF file are copied. Checks that the model is
/// complete, as load_model does. Throws Error for a model that no such file can hold.
GgufExport plan_gguf(const ModelFiles& files, std::optional<quant::GgufMix> mix);

/// Writes it; see io::write_gguf.
quant::GgufReport write_gguf(const GgufExport& made, const std::string& output);

}  // namespace bezel::gemma4
