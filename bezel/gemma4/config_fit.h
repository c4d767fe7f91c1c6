#pragma once

#include "bezel/gemma4/config.h"
#include "bezel/io/checkpoint.h"

namespace bezel::gemma4 {

/// Adapts `config` to the tensors of its checkpoint, where transformers loads other than config.json says: a stored
/// head that differs from the embeddings is not tied to them, and a tower of which there is no tensor is left out.
/// Adds a line to config.warnings for each. Reads headers, and both matrices where there are two.
void fit_to_weights(ModelConfig& config, const io::Checkpoint& checkpoint);

}  // namespace bezel::gemma4
