#include "bezel/nn/row_groups.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/nn/device_experts.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kRowsAtATime = 4;  // that a thread takes at least

// Sums in a buffer of one row, so that each expert's row is read once, in order.
template <typename T>
void add_rows(const Tensor& z, const std::int64_t* place, const float* weight, Tensor& out) {
  const std::int64_t width = z.size(1), num_rows = out.size(0), top_k = num_rows == 0 ? 0 : z.size(0) / num_rows;
  const T* from = z.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  at::parallel_for(0, num_rows, kRowsAtATime, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> sum(static_cast<std::size_t>(width));
    for (std::int64_t row = begin; row < end; ++row) {
      std::ranges::fill(sum, 0.0f);
      for (std::int64_t k = row * top_k; k < (row + 1) * top_k; ++k) {
        const T* part = from + place[k] * width;
        const float factor = weight == nullptr ? 1.0f : weight[k];
        for (std::int64_t i = 0; i < width; ++i)
          sum[static_cast<std::size_t>(i)] += factor * static_cast<float>(part[i]);
      }
      for (std::int64_t i = 0; i < width; ++i) to[row * width + i] = static_cast<T>(sum[static_cast<std::size_t>(i)]);
    }
  });
}

bool has_loop(const Tensor& z) {
  return kernels::may_loop(z) && z.is_contiguous() &&
         (z.scalar_type() == torch::kBFloat16 || z.scalar_type() == torch::kFloat);
}

}  // namespace

RowGroups group_rows(const Tensor& chosen, std::int64_t num_experts) {
  if (!kernels::may_loop(chosen) && has_device_experts()) return group_rows_on_device(chosen, num_experts);
  const Tensor host = chosen.to(torch::kCPU).contiguous();
  const std::int64_t num_slots = host.numel(), top_k = host.size(1);
  const auto* expert = host.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> next(static_cast<std::size_t>(num_experts) + 1);  // where an expert's next row goes
  for (std::int64_t i = 0; i < num_slots; ++i) {
    TORCH_CHECK(expert[i] >= 0 && expert[i] < num_experts, "no expert ", expert[i], " of ", num_experts);
    ++next[static_cast<std::size_t>(expert[i]) + 1];
  }
  RowGroups rows;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const auto at = static_cast<std::size_t>(e);
    if (next[at + 1] > 0) rows.groups.push_back({e, next[at], next[at + 1]});
    next[at + 1] += next[at];
  }
  const auto options = torch::TensorOptions().dtype(torch::kLong);
  Tensor source = at::empty({num_slots}, options), slot = at::empty({num_slots}, options),
         place = at::empty({num_slots}, options);
  for (std::int64_t i = 0; i < num_slots; ++i) {
    const std::int64_t to = next[static_cast<std::size_t>(expert[i])]++;
    source.data_ptr<std::int64_t>()[to] = i / top_k;
    slot.data_ptr<std::int64_t>()[to] = i;
    place.data_ptr<std::int64_t>()[i] = to;
  }
  rows.source = source.to(chosen.device());
  rows.slot = slot.to(chosen.device());
  rows.place = place.to(chosen.device());
  return rows;
}

Tensor sum_of_experts_plain(const Tensor& z, const Tensor& place, const Tensor& weight, std::int64_t num_rows) {
  Tensor parts = z.index_select(0, place).view({num_rows, -1, z.size(1)}).to(torch::kFloat);
  if (weight.defined()) parts = parts * weight.unsqueeze(-1);
  return parts.sum(1).to(z.scalar_type());
}

Tensor sum_of_experts(const Tensor& z, const Tensor& place, const Tensor& weight, std::int64_t num_rows) {
  if (!has_loop(z)) return sum_of_experts_plain(z, place, weight, num_rows);
  Tensor out = at::empty({num_rows, z.size(1)}, z.options());
  const Tensor factors = weight.defined() ? weight.to(torch::kFloat).contiguous() : Tensor();
  const float* factor = factors.defined() ? factors.const_data_ptr<float>() : nullptr;
  const auto* places = place.const_data_ptr<std::int64_t>();
  if (z.scalar_type() == torch::kFloat)
    add_rows<float>(z, places, factor, out);
  else
    add_rows<c10::BFloat16>(z, places, factor, out);
  return out;
}

}  // namespace bezel::nn
