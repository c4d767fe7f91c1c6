#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <torch/types.h>

namespace bezel::report {

/// One comparison of the doctor.
struct DoctorCheck {
  std::string name;    ///< what is compared with what
  double error = 0.0;  ///< largest found
  double limit = 0.0;  ///< largest allowed

  bool good() const { return error <= limit; }
};

/// Whether Bezel computes right on this machine and on `device`. A tiny Gemma 4 with text, vision and audio towers and
/// what transformers + PEFT compute with it in float32 are built into the program. Compares loss, logits, soft tokens
/// and LoRA gradients: the CPU in float32 with transformers; `device` in float32 with the CPU; `device` in bfloat16
/// with the CPU in float32; and products of matrices in NF4 and int8 with those of the dequantized ones. Calls
/// `on_check` after each. Writes the model to a temporary folder and removes it. Throws Error (kIo) where that cannot
/// be written.
void doctor(torch::Device device, const std::function<void(const DoctorCheck&)>& on_check);

/// Bytes of the bundled files "config.json", "model.safetensors" and "reference.safetensors".
std::string_view doctor_file(std::string_view name);

}  // namespace bezel::report
