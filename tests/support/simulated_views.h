#pragma once

#include <ATen/core/Tensor.h>

/// Tensors over the same memory, as the device and as the CPU's kernels see it.
namespace bezel::simulated {

bool is_on_device(const at::Tensor& tensor);

/// The tensor for a CPU kernel: no copy. Where the kernel gives it other memory, see `adopt`.
at::Tensor host_view(const at::Tensor& device);

/// A tensor of the device with storage that it has already.
at::Tensor device_view(const at::Tensor& like_host, const at::Tensor& base);

/// A tensor of the device with the values of one that a CPU kernel made.
at::Tensor to_device(const at::Tensor& host);

/// Brings what a kernel did to size or memory of a host view back to its tensor.
void adopt(const at::Tensor& device, const at::Tensor& host);

/// Says in a fault report which operator wrote a tensor first.
void name_after(const at::Tensor& device, const char* name);

}  // namespace bezel::simulated
