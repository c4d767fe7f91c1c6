#pragma once

#include <string>

#include "bezel/gemma4/model.h"
#include "bezel/lora/adapter_io.h"

namespace bezel::train {

/// Reads a PEFT adapter folder (lora::load_adapter), attaches it, and lets the model's images see one another as the
/// adapter was trained to see them (image_attention); where it does not say, as the model's config does.
lora::LoadedAdapter use_adapter(gemma4::Model& model, const std::string& folder);

}  // namespace bezel::train
