#pragma once

#include <string>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/load.h"

namespace bezel::gemma4 {

/// A model by its files: where a user may name the towers of a GGUF file too.
struct ModelFiles {
  std::string model;            ///< checkpoint folder or GGUF file
  std::string mmproj{};         ///< GGUF file of its towers; "": the one beside a GGUF file, see io::GgufModel::open
  std::int64_t num_tokens = 0;  ///< embeddings, head and per-layer table have this many rows at least; those that the
                                ///< files lack are the mean of the others (quant::grown_weight)
};

/// read_model_config and load_model of these files. Throw Error (kConfig) where `mmproj` stands beside a checkpoint
/// folder, which has its towers itself.
ModelConfig read_model_config(const ModelFiles& files);
LoadedModel load_model(const ModelFiles& files, const LoadOptions& options);

}  // namespace bezel::gemma4
