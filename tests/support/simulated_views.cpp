#include "support/simulated_views.h"

#include <cstring>

#include <ATen/core/TensorBase.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/TensorImpl.h>

#include "support/simulated_device.h"
#include "support/simulated_memory.h"

namespace bezel::simulated {
namespace {

using at::Tensor;

Tensor over(c10::Storage storage, c10::DispatchKey key, const Tensor& like) {
  Tensor made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) made.unsafeGetTensorImpl()->set_wrapped_number(true);
  return made;
}

void keep(void*) {}

}  // namespace

bool is_on_device(const Tensor& tensor) { return tensor.defined() && tensor.device().is_privateuseone(); }

Tensor host_view(const Tensor& device) {
  const c10::Storage& storage = device.storage();
  void* memory = to_host(storage.data());
  c10::Storage alias(c10::Storage::use_byte_size_t{}, storage.nbytes(), c10::DataPtr(memory, memory, &keep, c10::kCPU),
                     c10::GetCPUAllocator(), /*resizable=*/true);
  return over(std::move(alias), c10::DispatchKey::CPU, device);
}

Tensor device_view(const Tensor& like_host, const Tensor& base) {
  return over(base.storage(), c10::DispatchKey::PrivateUse1, like_host);
}

Tensor to_device(const Tensor& host) {
  c10::Allocator* allocator = c10::GetAllocator(c10::DeviceType::PrivateUse1);
  const std::size_t bytes = host.storage().nbytes();
  c10::Storage storage(c10::Storage::use_byte_size_t{}, bytes, allocator, /*resizable=*/true);
  if (bytes > 0) std::memcpy(to_host(storage.data()), host.storage().data(), bytes);
  return over(std::move(storage), c10::DispatchKey::PrivateUse1, host);
}

void adopt(const Tensor& device, const Tensor& host) {
  const c10::Storage &own = device.storage(), &changed = host.storage();
  if (changed.data() != to_host(own.data())) {
    at::detail::getPrivateUse1Hooks().resizePrivateUse1Bytes(own, changed.nbytes());
    if (changed.nbytes() > 0) std::memcpy(to_host(own.data()), changed.data(), changed.nbytes());
  }
  if (device.sizes() != host.sizes() || device.strides() != host.strides())
    device.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
}

void name_after(const Tensor& device, const char* name) {
  if (is_on_device(device)) name_block(device.storage().data(), name, /*overwrite=*/false);
}

}  // namespace bezel::simulated
