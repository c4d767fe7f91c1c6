#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bezel::lora {

struct MlxAdapter {
  std::int64_t layers = 0;  ///< written
  std::int64_t rank = 0;
  std::vector<std::string> left_behind;  ///< modules that mlx-lm does not have, as the file spells them
};

/// Writes the language layers of a PEFT adapter folder as an adapter folder of mlx-lm (adapters.safetensors,
/// adapter_config.json): lora_a [in, rank], lora_b [rank, out], float32, one rank and one scale for all layers (see
/// read_uniform_adapter). Names are those of the class that mlx-lm makes of the base: `language_model.model.layers…`
/// over a checkpoint with towers, `model.layers…` over a text-only one, which the adapter's own names say. The folder
/// appears wholly or not at all. Throws Error for an adapter that read_uniform_adapter refuses and when no layer can be
/// written. Reference: mlx-lm 0.32.2, tuner/utils.py and models/gemma4.py.
MlxAdapter write_mlx_adapter(const std::string& folder, const std::string& output);

/// The base of an adapter of mlx-lm, which names a folder or a hub's id but no class.
struct MlxBase {
  std::string model;   ///< in place of the one that the folder names; "": that one
  std::string family;  ///< of its class in transformers: "Gemma4", "Gemma4Unified" (the 12B), "Gemma3"
};

/// Writes an adapter folder of mlx-lm as a PEFT adapter folder; returns its number of layers. The folder appears wholly
/// or not at all. Throws Error for fine_tune_type dora and full, for LoRA on embeddings and experts, for tensors of
/// another form or name, and for NaN and Inf.
std::int64_t read_mlx_adapter(const std::string& folder, const MlxBase& base, const std::string& output);

/// The base that an adapter folder of mlx-lm names; "" for none.
std::string mlx_base_model(const std::string& folder);

/// Whether `folder` holds an adapter of mlx-lm.
bool is_mlx_adapter(const std::string& folder);

}  // namespace bezel::lora
