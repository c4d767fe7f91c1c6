#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/gemma4/model_files.h"
#include "bezel/quant/gguf_part.h"

namespace bezel::cli {

/// Merges the adapter in folder `adapter` into `parts`, matrices of the model in `files`; returns how many it changes,
/// 0 for an adapter "". Throws Error (kConfig) where the adapter adds tokens, which a file of --to `format` cannot
/// have.
std::int64_t merge_parts(const gemma4::ModelFiles& files, const std::string& adapter, const std::string& format,
                         const std::vector<quant::GgufPart*>& parts);

}  // namespace bezel::cli
