#pragma once

#include <string>

#include <torch/types.h>

namespace bezel::train {

/// "cpu", "cuda", "cuda:N", "privateuseone" (what a plugin of LibTorch has registered), or "auto": CUDA where this
/// LibTorch sees a device. Throws Error (kConfig) for CUDA that is
/// not there, and for other names.
torch::Device choose_device(const std::string& name);

/// The same without asking whether CUDA is there, for plans.
torch::Device planned_device(const std::string& name);

}  // namespace bezel::train
