#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bezel::lora {

struct GgufAdapter {
  std::string architecture;              ///< as llama.cpp calls the base: gemma3 or gemma4
  std::int64_t layers = 0;               ///< written
  std::vector<std::string> left_behind;  ///< modules that llama.cpp has no adapters for, as the file spells them
};

/// Writes the language layers of a PEFT adapter folder as an adapter for llama.cpp. What rsLoRA and alpha_pattern do to
/// a layer's scale goes into its B, since there is one alpha for all. `architecture` empty: that of the class or the
/// key names that the adapter gives. The file appears wholly or not at all. Throws Error for an adapter that
/// load_adapter would refuse whatever the model, when no layer can be written, and when the architecture is not known.
/// Reference: llama.cpp, convert_lora_to_gguf.py and src/llama-adapter.cpp.
GgufAdapter write_gguf_adapter(const std::string& folder, const std::string& architecture, const std::string& output);

}  // namespace bezel::lora
