#pragma once

#include <string>

#include "bezel/gemma4/config.h"
#include "bezel/input/raw_inputs.h"

namespace bezel::test {

/// config.json text of a Gemma 4 shape with all three towers, per-layer embeddings and KV sharing, a few thousand
/// weights.
std::string tiny_config_text();
gemma4::ModelConfig tiny_config();
/// The same with four experts in each layer, of which a row goes to two.
std::string tiny_mixture_text();

/// Writes a checkpoint with random weights and narrow clip bounds into `folder`; `nested` as released, with the k/v
/// tensors of KV-sharing layers left in.
void write_tiny_checkpoint(const std::string& folder, bool nested = true);
void write_tiny_checkpoint(const std::string& folder, bool nested, const std::string& config);

/// A row of text with one image of 2 x 1 soft tokens and one short audio clip.
input::RawInputs tiny_inputs();
/// The batch of such inputs.
input::Batch tiny_batch(const input::RawInputs& raw);
input::Batch tiny_batch();

}  // namespace bezel::test
