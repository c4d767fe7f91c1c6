#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <torch/types.h>

/// A simulated accelerator: a backend of LibTorch (PrivateUse1) whose kernels are the CPU's and whose memory the host
/// cannot touch (simulated_memory.h). It is no model of a GPU's speed. It shows what a program asks of a device: how
/// many kernels it launches, what it copies, and how often it waits. Loading the library registers the backend.
namespace bezel::simulated {

inline const torch::Device kDevice{torch::kPrivateUse1, 0};

struct Counts {
  std::int64_t launches = 0;        ///< calls of the backend that are no views: about a kernel each
  std::int64_t host_to_device = 0;  ///< copies
  std::int64_t host_to_device_bytes = 0;
  std::int64_t device_to_host = 0;
  std::int64_t device_to_host_bytes = 0;
  /// Times that the host waits for the device: copies to the host, item(), and operators whose result's size is data
  /// (nonzero, masked_select, bincount, unique, an index that is a mask).
  std::int64_t synchronizations = 0;
  std::map<std::string, std::int64_t> by_operator{};  ///< launches
  std::map<std::string, std::int64_t> waits{};        ///< synchronizations
};

/// Since the start of the process, or the last reset.
Counts counts();
void reset_counts();

/// What a fault report calls this tensor.
void name_tensor(const torch::Tensor& tensor, const std::string& name);

}  // namespace bezel::simulated

/// The same for Python's ctypes: counts and memory as JSON. The text is valid until the next call on this thread.
extern "C" const char* bezel_simulated_counts();
extern "C" void bezel_simulated_reset();
