#pragma once

#include <string>

namespace bezel::gemma4 {

/// Throws Error, with a word on what it is, for the model_type of a model of Google's family that is not read:
/// drafters, DiffusionGemma, EmbeddingGemma 2, Gemma 3 with images, Gemma 3n and others. `source` is the config's path.
void refuse_relative(const std::string& model_type, const std::string& source);

}  // namespace bezel::gemma4
