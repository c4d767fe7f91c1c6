#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bezel::io {

/// The name in an `mmproj` file, as llama.cpp's converter spells it, of a tower's tensor of canonical name: clip bounds
/// follow their layer's (`v.blk.3.attn_q.input_min`). Nothing for a tensor of the language model. References:
/// gguf's MODEL_ARCH.MMPROJ, llama.cpp's conversion/gemma.py.
std::optional<std::string> gguf_tower_name(std::string_view canonical);

/// The inverse, for the towers of all sizes but the 12B.
std::optional<std::string> canonical_gguf_tower_name(std::string_view stored);

/// The inverse, for the embedders of the 12B.
std::optional<std::string> canonical_gguf_embedder_name(std::string_view stored);

}  // namespace bezel::io
