#include "bezel/nn/grouped_product.h"

#include <atomic>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "bezel/nn/narrow_factors.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::size_t kGroupsForEachThread = 4;  // with fewer, threads share each product instead

// Calls body(i) for every group. On a CPU each thread takes one group after the other, so that no thread waits at the
// end of every product; inside, products run on one thread.
template <typename Body>
void for_groups(const std::vector<RowGroup>& groups, bool on_cpu, const Body& body) {
  const auto num_threads = static_cast<std::size_t>(at::get_num_threads());
  if (!on_cpu || num_threads == 1 || groups.size() < kGroupsForEachThread * num_threads) {
    for (std::size_t i = 0; i < groups.size(); ++i) body(i);
    return;
  }
  std::atomic<std::size_t> next{0};
  at::parallel_for(0, static_cast<std::int64_t>(num_threads), 1, [&](std::int64_t, std::int64_t) {
    const at::NoGradGuard no_grad;  // grad mode belongs to a thread
    for (std::size_t i = next++; i < groups.size(); i = next++) body(i);
  });
}

Tensor rows_of(const Tensor& x, const RowGroup& group) { return x.narrow(0, group.begin, group.count); }

}  // namespace

Adapter adapter_of_expert(const Adapter& stack, std::int64_t expert, std::int64_t num_experts) {
  const std::int64_t rank = stack.a.size(0) / num_experts;
  return {.a = stack.a.narrow(0, expert * rank, rank),
          .b = stack.b.view({stack.b.size(0), rank, num_experts}).select(2, expert),
          .scale = stack.scale,
          .dropout = stack.dropout};
}

GroupedProduct::GroupedProduct(std::shared_ptr<const quant::Weight> stack, const Adapter* adapter)
    : stack_(std::move(stack)) {
  TORCH_CHECK(stack_, "these experts have no weight yet: load a checkpoint first");
  num_experts_ = stack_->shape()[0];
  if (adapter == nullptr) return;
  TORCH_CHECK(adapter->dropout == 0, "dropout does not go with adapters over a stack of experts");
  rank_ = adapter->a.size(0) / num_experts_;
  num_tensors_ = 2;
  scale_ = adapter->scale;
  const at::NoGradGuard no_grad;
  const Adapter first = adapter_of_expert(*adapter, 0, num_experts_);
  terms_.add(&first);
  if (const auto& narrow = NarrowFactors::current(); narrow && narrow->of(adapter->a).defined())
    narrow_ = {narrow->of(adapter->a), narrow->of(adapter->b)};
}

std::vector<GroupedProduct::Tensors> GroupedProduct::tensors_of(const std::vector<RowGroup>& groups,
                                                                const Tensors& tensors, torch::ScalarType dtype) const {
  if (!is_adapted()) return {};
  std::vector<std::int64_t> experts;
  for (const RowGroup& group : groups) experts.push_back(group.expert);
  const Tensor index = at::tensor(experts, torch::kLong).to(tensors[1].device());
  // What a step multiplies B in: rounded here, half as much is moved. [G, out, r]
  const Tensor b =
      tensors[1].to(dtype).view({tensors[1].size(0), rank_, num_experts_}).permute({2, 0, 1}).index_select(0, index);
  std::vector<Tensors> out;
  for (std::size_t i = 0; i < groups.size(); ++i)
    out.push_back({tensors[0].narrow(0, groups[i].expert * rank_, rank_), b[static_cast<std::int64_t>(i)]});
  return out;
}

std::optional<DeviceFactors> GroupedProduct::factors_on_device(const Tensors& tensors, torch::ScalarType dtype) const {
  if (!is_adapted()) return std::nullopt;
  const Tensors& factors = narrow_.empty() ? tensors : narrow_;
  return device_factors(factors[0], factors[1], num_experts_, scale_, dtype);
}

GroupedProduct::Output GroupedProduct::forward(const Tensor& x, const RowGroups& rows, const Tensors& tensors) const {
  if (rows.ends.defined()) {
    const auto factors = factors_on_device(tensors, x.scalar_type());
    Output out;
    out.y = experts_product(x, *stack_, rows.ends, factors ? &*factors : nullptr, out.h);
    return out;
  }
  const std::vector<RowGroup>& groups = rows.groups;
  Output out{.y = at::empty({x.size(0), stack_->shape()[1]}, x.options()), .h = {}};
  if (is_adapted()) out.h = at::empty({x.size(0), rank_}, x.options());
  const std::vector<Tensors> factors = tensors_of(groups, tensors, x.scalar_type());
  for_groups(groups, x.is_cpu(), [&](std::size_t i) {
    const Tensor part = rows_of(x, groups[i]);
    Tensor y = stack_->select(groups[i].expert)->matmul(part);
    if (is_adapted()) {
      const Tensor h = terms_.project(part, factors[i]);
      rows_of(out.h, groups[i]).copy_(h);
      kernels::add_low_rank(y, terms_.output_term(0, h, factors[i]));
    }
    rows_of(out.y, groups[i]).copy_(y);
  });
  return out;
}

GroupedProduct::Gradients GroupedProduct::backward(const Tensor& dy, const Tensor& x, const Tensor& h,
                                                   const RowGroups& rows, const Tensors& tensors,
                                                   bool wants_input) const {
  if (rows.ends.defined()) {
    const auto factors = factors_on_device(tensors, dy.scalar_type());
    DeviceGradients made =
        experts_product_backward(dy, x, h, *stack_, rows.ends, factors ? &*factors : nullptr, rank_, wants_input);
    return {made.x, is_adapted() ? Tensors{made.a, made.b} : Tensors{}};
  }
  const std::vector<RowGroup>& groups = rows.groups;
  const std::int64_t num_out = stack_->shape()[1], num_in = stack_->shape()[2];
  Gradients out;
  if (wants_input) out.x = at::empty({dy.size(0), num_in}, dy.options());
  const std::vector<Tensors> factors = tensors_of(groups, tensors, dy.scalar_type());
  const auto wide = dy.options().dtype(torch::kFloat);
  Tensor da, db;  // [E*r, in] and [E, out, r]
  if (is_adapted()) {
    da = at::zeros({num_experts_ * rank_, num_in}, wide);
    db = at::zeros({num_experts_, num_out, rank_}, wide);
  }
  for_groups(groups, dy.is_cpu(), [&](std::size_t i) {
    const RowGroup& group = groups[i];
    const Tensor part = rows_of(dy, group);
    Tensors dh, made(2);
    if (is_adapted()) {
      terms_.backward_output(0, part, rows_of(h, group), factors[i], /*wants_tensors=*/true, dh, made);
      terms_.backward_project(dh, rows_of(x, group), made);
      da.narrow(0, group.expert * rank_, rank_).copy_(made[0]);
      db[group.expert].copy_(made[1]);
    }
    if (!wants_input) return;
    Tensor dx = stack_->select(group.expert)->matmul_transposed(part);
    if (is_adapted()) kernels::add_low_rank(dx, terms_.input_term(dh, factors[i]));
    rows_of(out.x, group).copy_(dx);
  });
  if (is_adapted()) out.tensors = {da, db.permute({1, 2, 0}).reshape({num_out, rank_ * num_experts_})};
  return out;
}

}  // namespace bezel::nn
