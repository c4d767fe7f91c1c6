#pragma once

#include <string>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/io/gguf_writer.h"

namespace bezel::gemma4 {

/// llama.cpp's name of a family: "gemma4" or "gemma3".
std::string gguf_architecture(Family family);

/// Sets the keys of a GGUF file that say what model it holds, as llama.cpp's converter writes them; the inverse of
/// read_gguf_config. `source` is for errors. Throws Error for what no key can say: projections with biases, and in
/// Gemma 3 full layers elsewhere than every sixth. Reference: llama.cpp's conversion/gemma.py and base.py.
void set_gguf_config(const ModelConfig& config, const std::string& source, io::NewGgufKeys& keys);

/// The factors of `rope_freqs.weight`, by which a file of Gemma 4 says how many angles of its full layers turn.
std::vector<float> gguf_rope_factors(const TextConfig& text);

}  // namespace bezel::gemma4
