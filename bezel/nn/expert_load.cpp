#include "bezel/nn/expert_load.h"

namespace bezel::nn {
namespace {

thread_local ExpertCounting* current_expert_counting = nullptr;

}  // namespace

ExpertCounting::ExpertCounting() : outer_(current_expert_counting) { current_expert_counting = this; }
ExpertCounting::~ExpertCounting() { current_expert_counting = outer_; }
ExpertCounting* ExpertCounting::current() { return current_expert_counting; }

void ExpertCounting::add(const StackedExperts* experts, std::int64_t num_experts, const std::vector<RowGroup>& groups) {
  std::vector<std::int64_t>& counts = counts_[experts];
  counts.resize(static_cast<std::size_t>(num_experts));
  for (const RowGroup& group : groups) counts[static_cast<std::size_t>(group.expert)] += group.count;
}

}  // namespace bezel::nn
