// The operators of the simulated device that are more than the CPU's over the same memory.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <torch/library.h>

#include "support/simulated_counters.h"
#include "support/simulated_device.h"
#include "support/simulated_fallback.h"
#include "support/simulated_views.h"

namespace bezel::simulated {
namespace {

using at::Tensor;

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

c10::Allocator* allocator() { return c10::GetAllocator(c10::DeviceType::PrivateUse1); }

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, allocator(), kKeys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, allocator(), kKeys, c10::dtype_or_default(dtype));
}

Tensor visible(const Tensor& tensor) { return is_on_device(tensor) ? host_view(tensor) : tensor; }

// A copy to the host waits: who asked for it is about to read it.
Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  const at::AutoDispatchBelowADInplaceOrView below;
  visible(to).copy_(visible(from));
  const auto bytes = static_cast<std::int64_t>(from.numel() * from.element_size());
  if (is_on_device(from) && is_on_device(to)) {
    count_launch("aten::copy_");
  } else if (is_on_device(to)) {
    count_to_device(bytes);
  } else {
    count_to_host(bytes);
    count_synchronization("copy to the host");
  }
  name_after(to, "aten::copy_");
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const Tensor& tensor) {
  const at::AutoDispatchBelowADInplaceOrView below;
  count_to_host(static_cast<std::int64_t>(tensor.element_size()));
  count_synchronization("aten::item");
  return at::_local_scalar_dense(host_view(tensor));
}

Tensor& set_storage(Tensor& self, at::Storage source, std::int64_t offset, at::IntArrayRef size,
                    at::IntArrayRef stride) {
  c10::TensorImpl* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_sizes_and_strides(size, stride, offset);
  return self;
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// Attention is one kernel here, as on devices that have one.
std::int64_t attention_choice(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double dropout,
                              bool, std::optional<double>, bool) {
  return static_cast<std::int64_t>(dropout > 0 ? sdp::SDPBackend::math : sdp::SDPBackend::overrideable);
}

std::optional<Tensor> visible(const std::optional<Tensor>& tensor) {
  return tensor && tensor->defined() ? std::optional(visible(*tensor)) : std::nullopt;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> attention(
    const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& bias, double dropout,
    bool is_causal, bool, std::optional<double> scale) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      visible(query), visible(key), visible(value), dropout, is_causal, visible(bias), scale);
  count_launch("aten::_scaled_dot_product_fused_attention");
  const Tensor none = at::empty({0}, query.options().dtype(at::kLong));
  return {to_device(out), to_device(log_sum), none, none, query.sym_size(2), key.sym_size(2), none, none, none};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(
    const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bias,
    std::array<bool, 4>, const Tensor& out, const Tensor& log_sum, const Tensor&, const Tensor&, std::int64_t,
    std::int64_t, double dropout, bool is_causal, const Tensor&, const Tensor&, std::optional<double> scale) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const std::optional<Tensor> mask = bias.defined() ? std::optional(visible(bias)) : std::nullopt;
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      visible(grad), visible(query), visible(key), visible(value), visible(out), visible(log_sum), dropout, is_causal,
      mask, scale);
  count_launch("aten::_scaled_dot_product_fused_attention_backward");
  return {to_device(dq), to_device(dk), to_device(dv), Tensor()};
}

// Kernels that devices have, and the CPU makes of several. CUDA's reads a weight of x's dtype alone.
void check_norm(const Tensor& x, const std::optional<Tensor>& weight) {
  TORCH_CHECK(!weight || !weight->defined() || weight->scalar_type() == x.scalar_type(), "a norm of ", x.scalar_type(),
              " with a weight of ", weight->scalar_type());
}

std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, at::IntArrayRef, const std::optional<Tensor>& weight,
                                    std::optional<double> eps) {
  const at::AutoDispatchBelowADInplaceOrView below;
  check_norm(x, weight);
  const Tensor wide = visible(x).to(at::kFloat);
  const Tensor inverse = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps.value_or(1e-6));
  Tensor y = wide * inverse;
  if (weight) y = y * visible(*weight).to(at::kFloat);
  count_launch("aten::_fused_rms_norm");
  return {to_device(y.to(x.scalar_type())), to_device(inverse)};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x, at::IntArrayRef,
                                             const Tensor& inverse, const std::optional<Tensor>& weight,
                                             std::array<bool, 2> wanted) {
  const at::AutoDispatchBelowADInplaceOrView below;
  TORCH_CHECK(!wanted[1], "the gradient of a norm's weight is not simulated");
  TORCH_CHECK(grad.scalar_type() == x.scalar_type(), "a gradient in ", grad.scalar_type(), " of a norm of ",
              x.scalar_type());
  check_norm(x, weight);
  Tensor dy = visible(grad).to(at::kFloat);
  if (weight) dy = dy * visible(*weight).to(at::kFloat);
  const Tensor normed = visible(x).to(at::kFloat) * visible(inverse);
  const Tensor dx = (dy - normed * (dy * normed).mean(-1, /*keepdim=*/true)) * visible(inverse);
  count_launch("aten::_fused_rms_norm_backward");
  return {to_device(dx.to(x.scalar_type())), Tensor()};
}

// A product of bfloat16 in float32.
Tensor wide_mm(const Tensor& a, const Tensor& b, at::ScalarType dtype) {
  const at::AutoDispatchBelowADInplaceOrView below;
  TORCH_CHECK(a.scalar_type() == b.scalar_type() && dtype == at::kFloat, "a product of ", a.scalar_type(), " and ",
              b.scalar_type(), " in ", dtype);
  const Tensor out = at::mm(visible(a).to(dtype), visible(b).to(dtype));
  count_launch("aten::mm");
  return to_device(out);
}

Tensor convolution(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::SymIntArrayRef stride,
                   at::SymIntArrayRef padding, at::SymIntArrayRef dilation, bool transposed,
                   at::SymIntArrayRef output_padding, c10::SymInt groups) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor out = at::convolution_symint(visible(x), visible(weight), visible(bias.value_or(Tensor())), stride,
                                            padding, dilation, transposed, output_padding, std::move(groups));
  count_launch("aten::convolution");
  return to_device(out);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                        at::SymIntArrayRef stride, at::SymIntArrayRef padding,
                                                        at::SymIntArrayRef dilation, bool transposed,
                                                        at::SymIntArrayRef output_padding, c10::SymInt groups,
                                                        std::array<bool, 3> wanted) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const auto made =
      at::convolution_backward_symint(visible(grad), visible(x), visible(weight), std::nullopt, stride, padding,
                                      dilation, transposed, output_padding, std::move(groups), wanted);
  const auto moved = [](const Tensor& host) {
    if (host.defined()) count_launch("aten::convolution_backward");
    return host.defined() ? to_device(host) : host;
  };
  return {moved(std::get<0>(made)), moved(std::get<1>(made)), moved(std::get<2>(made))};
}

Tensor grouped_mm(const Tensor& a, const Tensor& b, const std::optional<Tensor>& ends,
                  const std::optional<Tensor>& bias, std::optional<at::ScalarType> dtype) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor out = at::_grouped_mm(visible(a), visible(b), visible(ends), visible(bias), dtype);
  count_launch("aten::_grouped_mm");
  return to_device(out);
}

// Of integers too, as CUDA counts them.
Tensor histogram(const Tensor& x, std::int64_t bins, const at::Scalar& least, const at::Scalar& most) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor counts = at::histc(visible(x).to(at::kFloat), bins, least, most);
  count_launch("aten::histc");
  return to_device(counts.to(x.scalar_type()));
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("histc", &histogram);
  library.impl("_fused_rms_norm", &rms_norm);
  library.impl("_fused_rms_norm_backward", &rms_norm_backward);
  library.impl("_grouped_mm", &grouped_mm);
  library.impl("mm.dtype", &wide_mm);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
  library.impl("_scaled_dot_product_fused_attention_overrideable", &attention);
  library.impl("_scaled_dot_product_fused_attention_overrideable_backward", &attention_backward);
}

// Operators on lists are a kernel each, as on devices that have them, and not one for every tensor.
torch::Library lists = [] {
  torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames())
    if (name.name.starts_with("aten::_foreach_"))
      library.impl((name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name)).c_str(),
                   torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
  return library;
}();

}  // namespace
}  // namespace bezel::simulated

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &bezel::simulated::attention_choice)
}  // namespace at::native
