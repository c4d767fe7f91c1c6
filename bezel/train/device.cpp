#include "bezel/train/device.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <torch/cuda.h>

#include "bezel/error.h"

namespace bezel::train {
namespace {

torch::Device parse(const std::string& name) {
  try {
    if (name == "cpu" || name == "privateuseone" || name.starts_with("cuda")) return torch::Device(name);
  } catch (const c10::Error&) {  // "cuda:x", "cuda1"
  }
  throw Error(ErrorKind::kConfig, "device: got '", name, "', expected cpu, cuda, cuda:N or auto");
}

}  // namespace

torch::Device planned_device(const std::string& name) { return name == "auto" ? choose_device(name) : parse(name); }

torch::Device choose_device(const std::string& name) {
  const bool has_cuda = torch::cuda::is_available();
  if (name == "auto") return has_cuda ? torch::kCUDA : torch::kCPU;
  const torch::Device device = parse(name);
  if (device.is_cuda() && !has_cuda)
    throw Error(ErrorKind::kConfig, "device '", name, "': this LibTorch sees no CUDA device; use device: cpu");
  if (device.is_privateuseone()) {
    if (!at::isPrivateUse1HooksRegistered())
      throw Error(ErrorKind::kConfig, "device '", name,
                  "': no plugin has registered a device of its own (PrivateUse1) ",
                  "with this LibTorch; use device: cpu");
    return {torch::kPrivateUse1, 0};
  }
  return device;
}

}  // namespace bezel::train
