#pragma once

namespace bezel::lora {

/// The files of a PEFT adapter's folder.
inline constexpr const char* kAdapterWeights = "adapter_model.safetensors";
inline constexpr const char* kAdapterConfig = "adapter_config.json";

}  // namespace bezel::lora
