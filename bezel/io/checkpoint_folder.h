#pragma once

#include <string>

namespace bezel::io {

/// Throws Error unless `folder` is a folder on this machine: a GGUF or safetensors file is named as such.
void check_checkpoint_folder(const std::string& folder);

/// What a folder that has no `model.safetensors` or no `config.json` holds instead (an adapter, pickles, shards without
/// their index, a GGUF file, …) and what to do, as the rest of a message: "holds …; …".
std::string instead_of_checkpoint(const std::string& folder);

}  // namespace bezel::io
