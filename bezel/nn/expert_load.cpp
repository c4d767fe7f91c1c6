#include "bezel/nn/expert_load.h"

#include <ATen/ATen.h>

namespace bezel::nn {

using torch::Tensor;

namespace {

thread_local ExpertCounting* current_expert_counting = nullptr;

}  // namespace

ExpertCounting::ExpertCounting() : outer_(current_expert_counting) { current_expert_counting = this; }
ExpertCounting::~ExpertCounting() { current_expert_counting = outer_; }
ExpertCounting* ExpertCounting::current() { return current_expert_counting; }

void ExpertCounting::clear() {
  counts_.clear();
  on_device_.clear();
}

const std::unordered_map<const StackedExperts*, std::vector<std::int64_t>>& ExpertCounting::counts() const {
  std::vector<const StackedExperts*> owners;
  std::vector<Tensor> ends;
  for (const auto& [experts, sums] : on_device_) {
    owners.push_back(experts);
    ends.push_back(sums);
  }
  // All at once: the host waits for the device one time. Mixtures of one model are alike.
  const Tensor host = ends.empty() ? Tensor() : at::stack(ends).cpu();
  for (std::size_t i = 0; i < owners.size(); ++i) {
    std::vector<std::int64_t>& counts = counts_[owners[i]];
    counts.resize(static_cast<std::size_t>(host.size(1)));
    const auto* row = host[static_cast<std::int64_t>(i)].const_data_ptr<std::int64_t>();
    for (std::size_t e = 0; e < counts.size(); ++e) counts[e] += row[e] - (e == 0 ? 0 : row[e - 1]);
  }
  on_device_.clear();
  return counts_;
}

void ExpertCounting::add(const StackedExperts* experts, std::int64_t num_experts, const RowGroups& rows) {
  if (rows.ends.defined()) {
    const Tensor ends = rows.ends.to(torch::kLong);  // sums of ends are the ends of sums
    Tensor& sums = on_device_[experts];
    sums = sums.defined() ? sums + ends : ends;
    return;
  }
  std::vector<std::int64_t>& counts = counts_[experts];
  counts.resize(static_cast<std::size_t>(num_experts));
  for (const RowGroup& group : rows.groups) counts[static_cast<std::size_t>(group.expert)] += group.count;
}

}  // namespace bezel::nn
