#pragma once

#include <string>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/load.h"

namespace bezel::gemma4 {

/// A model by its files: where a user may name the towers of a GGUF file too.
struct ModelFiles {
  std::string model;     ///< checkpoint folder or GGUF file
  std::string mmproj{};  ///< GGUF file of its towers; "": the one beside a GGUF file, see io::GgufModel::open
};

/// read_model_config and load_model of these files. Throw Error (kConfig) where `mmproj` stands beside a checkpoint
/// folder, which has its towers itself.
ModelConfig read_model_config(const ModelFiles& files);
LoadedModel load_model(const ModelFiles& files, const LoadOptions& options);

}  // namespace bezel::gemma4
