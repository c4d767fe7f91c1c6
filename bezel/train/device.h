#pragma once

#include <string>

#include <torch/types.h>

namespace bezel::train {

/// "cpu", "cuda", "cuda:N", or "auto": CUDA where this LibTorch sees a device. Throws Error (kConfig) for CUDA that is
/// not there, and for other names.
torch::Device choose_device(const std::string& name);

}  // namespace bezel::train
