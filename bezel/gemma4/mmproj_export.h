#pragma once

#include <optional>
#include <string>

#include "bezel/gemma4/gguf_export.h"

namespace bezel::gemma4 {

/// Plans the `mmproj` file of a checkpoint folder: its vision and audio towers with their projections and clip bounds,
/// as llama.cpp's converter writes them; nothing for a model without towers. Matrices get the floating type of `mix`,
/// those of packed mixes and without one the type that most are stored in; convolutions and position tables F32. The
/// towers beside a GGUF file are copied, whatever the mix.
/// Reference: llama.cpp's conversion/gemma.py (Gemma4VisionAudioModel) and base.py (MmprojModel).
std::optional<GgufExport> plan_mmproj(const ModelFiles& files, std::optional<quant::GgufMix> mix);

}  // namespace bezel::gemma4
