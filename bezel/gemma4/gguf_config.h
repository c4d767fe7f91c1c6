#pragma once

#include "bezel/gemma4/config.h"
#include "bezel/io/gguf_model.h"

namespace bezel::gemma4 {

/// The config of a model in a GGUF file, from its metadata and, where that is silent, from its tensors: a language
/// model, and the towers beside it. Throws Error naming the key for values that cannot be, and for
/// architectures other than gemma4 and gemma3. References: llama.cpp's conversion/gemma.py, src/models/gemma4.cpp and
/// gemma3.cpp.
ModelConfig read_gguf_config(const io::GgufModel& model);

}  // namespace bezel::gemma4
