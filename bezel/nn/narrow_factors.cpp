#include "bezel/nn/narrow_factors.h"

#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/nn/weight_site.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kAlignment = 8;  // elements: 16 bytes, below which a device's products are slower

thread_local std::shared_ptr<const NarrowFactors> current_factors;

// Every A, then every B.
std::vector<Tensor> factors_of(const torch::nn::Module& root) {
  std::vector<Tensor> all, all_b;
  for (const WeightSite& site : weight_sites(root)) {
    const auto* adapter = site.adapter();
    if (adapter == nullptr || !*adapter) continue;
    all.push_back((*adapter)->a);
    all_b.push_back((*adapter)->b);
  }
  all.insert(all.end(), all_b.begin(), all_b.end());
  return all;
}

// Whether all are in one storage and each begins `step` elements behind the one before it.
template <typename Step>
bool follow_each_other(const std::vector<Tensor>& parts, const Step& step) {
  for (std::size_t i = 0; i + 1 < parts.size(); ++i)
    if (parts[i].storage().unsafeGetStorageImpl() != parts[i + 1].storage().unsafeGetStorageImpl() ||
        parts[i].strides() != parts[i + 1].strides() || parts[i].stride(1) != 1 ||
        parts[i].storage_offset() + step(parts[i]) != parts[i + 1].storage_offset())
      return false;
  return true;
}

std::int64_t sum_of_sizes(const std::vector<Tensor>& parts, std::int64_t dim) {
  std::int64_t sum = 0;
  for (const Tensor& part : parts) sum += part.size(dim);
  return sum;
}

}  // namespace

NarrowFactors::NarrowFactors(const torch::nn::Module& root, torch::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> factors = factors_of(root);
  if (factors.empty()) return;
  std::vector<std::int64_t> begins;
  std::int64_t end = 0;
  for (const Tensor& factor : factors) {
    begins.push_back(end);
    end += (factor.numel() + kAlignment - 1) / kAlignment * kAlignment;
  }
  const Tensor all = at::empty({end}, factors[0].options().dtype(dtype).requires_grad(false));
  std::vector<Tensor> copies;
  for (std::size_t i = 0; i < factors.size(); ++i)
    copies.push_back(all.narrow(0, begins[i], factors[i].numel()).view(factors[i].sizes()));
  at::_foreach_copy_(copies, factors);
  for (std::size_t i = 0; i < factors.size(); ++i) copies_.emplace(factors[i].unsafeGetTensorImpl(), copies[i]);
}

Tensor NarrowFactors::of(const Tensor& factor) const {
  const auto found = copies_.find(factor.unsafeGetTensorImpl());
  return found == copies_.end() ? Tensor() : found->second;
}

const std::shared_ptr<const NarrowFactors>& NarrowFactors::current() { return current_factors; }

std::shared_ptr<const NarrowFactors> narrow_factors(const torch::nn::Module& root, torch::ScalarType dtype,
                                                    torch::Device device) {
  if (device.is_cpu() || device.is_meta() || dtype == torch::kFloat) return nullptr;
  return std::make_shared<const NarrowFactors>(root, dtype);
}

ScopedNarrowFactors::ScopedNarrowFactors(std::shared_ptr<const NarrowFactors> factors)
    : outer_(std::exchange(current_factors, std::move(factors))) {}

ScopedNarrowFactors::~ScopedNarrowFactors() { current_factors = std::move(outer_); }

Tensor stacked_rows(const std::vector<Tensor>& parts) {
  if (parts.size() == 1) return parts[0];
  if (!follow_each_other(parts, [](const Tensor& part) { return part.size(0) * part.stride(0); }))
    return at::cat(parts);
  return parts[0].as_strided({sum_of_sizes(parts, 0), parts[0].size(1)}, parts[0].strides());
}

Tensor joined_columns(const std::vector<Tensor>& parts) {
  if (parts.size() == 1) return parts[0];
  if (!follow_each_other(parts, [](const Tensor& part) { return part.size(1); })) return at::cat(parts, 1);
  return parts[0].as_strided({parts[0].size(0), sum_of_sizes(parts, 1)}, parts[0].strides());
}

}  // namespace bezel::nn
