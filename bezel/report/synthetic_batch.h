#pragma once

#include "bezel/gemma4/model.h"

namespace bezel::report {

/// A short input that reaches every tower of the model: a few words, and where the model has the towers a small image
/// of noise and an audio clip of noise. The last words are labelled. The same on every machine.
input::RawInputs synthetic_raw_inputs(const gemma4::ModelConfig& config);
input::Batch synthetic_batch(gemma4::Model& model);

}  // namespace bezel::report
