#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/io/checkpoint_writer.h"
#include "bezel/io/key_map.h"

namespace bezel::lora {

struct Conversion {
  std::int64_t renamed = 0;  ///< tensors whose name changed
  std::int64_t tensors = 0;
  std::vector<std::string> left_behind{};  ///< modules that the tool takes no adapter on, as the file spells them
};

/// Writes the checkpoint `folder` to the new folder `output` with the towers' layers in that key layout; config.json
/// and all values stay, also of codes. See io::write_checkpoint. Throws Error when a tensor is there in both spellings.
Conversion convert_checkpoint(const std::string& folder, io::KeyLayout layout, const std::string& output,
                              std::size_t max_shard_bytes = io::kMaxShardBytes);

/// For which class of the model an adapter spells the decoder's layers.
enum class AdapterNames {
  kAsStored,
  kText,        ///< `model.layers…` of Gemma4ForCausalLM, also what Bezel trains on GGUF files
  kMultimodal,  ///< `model.language_model.layers…` of Gemma4ForConditionalGeneration
};

/// The same for a PEFT adapter: keys of the towers' layers, with `names` those of the decoder's and of what is trained
/// of embeddings and head, and in adapter_config.json target_modules, rank_pattern, alpha_pattern, which then list full
/// module names, modules_to_save and trainable_token_indices. Other files are copied. Throws Error for an adapter that
/// read_adapter_config refuses, for tensors that are no LoRA tensors, and where layers of the towers would have to
/// become those of a text model.
Conversion convert_adapter(const std::string& folder, io::KeyLayout layout, const std::string& output,
                           AdapterNames names = AdapterNames::kAsStored);

}  // namespace bezel::lora
