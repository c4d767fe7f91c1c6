#pragma once

#include "bezel/gemma4/config.h"
#include "bezel/io/gguf_model.h"

namespace bezel::gemma4 {

/// Adds to `config` what the towers' file beside a language model says of them, and where its metadata is silent, its
/// tensors: numbers of keys and of positions, the width of convolutions, whether layers are clipped. What neither says
/// has one value in all models of Gemma 4. The projector types of the 12B's embedders make it a unified model. Throws
/// Error naming key or tensor for values that cannot be, for images and audio of two models, and when the tokenizer has
/// no word for an image or an audio clip. References: llama.cpp's conversion/gemma.py and tools/mtmd/clip.cpp.
void read_mmproj_config(const io::GgufModel& model, ModelConfig& config);

}  // namespace bezel::gemma4
