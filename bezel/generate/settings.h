#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/data/tokenizer.h"
#include "bezel/generate/sampler.h"

namespace bezel::generate {

/// What a checkpoint says about generating.
struct Settings {
  SamplingOptions sampling;
  std::optional<std::int64_t> max_new_tokens;
  std::vector<std::int64_t> stop_ids;  ///< generation ends with one of these
  std::vector<std::string> notes;      ///< settings that Bezel does not support
};

/// Reads generation_config.json of a checkpoint folder, with transformers' defaults for what it does not say (greedy;
/// where it samples top_k 50), and eos_token_id of config.json where it has no such key; of a GGUF file the ids of its
/// ends. The token that ends a turn, where the tokenizer has it, always stops. Throws Error naming file and key on
/// values that cannot be. `chat_template` is a file in place of the checkpoint's own template.
Settings read_settings(const std::string& model, const data::Tokenizer& tokenizer,
                       const std::string& chat_template = "");

}  // namespace bezel::generate
