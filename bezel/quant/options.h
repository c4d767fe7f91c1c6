#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bezel::quant {

/// How frozen matrices are kept in memory.
enum class Storage { kDense, kNf4, kInt8 };

/// "dense", "nf4" or "int8". Throws Error (kConfig) for anything else.
Storage parse_storage(std::string_view name);

/// What to do with dense matrices while they are loaded (config keys storage, quantize_skip, quantize_embeddings).
struct StorageOptions {
  Storage storage = Storage::kDense;
  bool double_quant = true;          ///< NF4: block scales in 8 bits too, as QLoRA does
  std::vector<std::string> skip{};   ///< modules that stay dense, with the meaning of llm_int8_skip_modules
  bool quantize_embeddings = false;  ///< the token embeddings (and the head tied to them) in int8
};

/// Whether transformers would leave module `name` alone for one of `patterns`: a regex from the start up to a module
/// boundary, or a plain suffix. Reference: should_convert_module. Throws Error (kConfig) for an invalid regex.
bool is_skipped(std::string_view name, const std::vector<std::string>& patterns);

}  // namespace bezel::quant
