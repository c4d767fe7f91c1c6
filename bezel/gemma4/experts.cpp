#include <cmath>

#include <ATen/ATen.h>

#include "bezel/gemma4/text.h"

namespace bezel::gemma4 {
using torch::Tensor;

RouterImpl::RouterImpl(const TextConfig& config) : top_k_(config.top_k_experts), eps_(config.rms_norm_eps) {
  proj = register_module(
      "proj", nn::Linear(config.hidden_size, config.num_experts, nn::LinearImpl::Options{.quantizable = false}));
  expect("scale", {config.hidden_size}, scale);
  expect("per_expert_scale", {config.num_experts}, per_expert_scale);
}

Routing RouterImpl::forward(const Tensor& x) {
  const double root = 1.0 / std::sqrt(static_cast<double>(x.size(-1)));
  const Tensor scores = proj(nn::rms_norm(x, {}, eps_) * scale * root);  // [N, E]
  const auto top = at::topk(at::softmax(scores, -1, torch::kFloat), top_k_, -1);
  const Tensor &weight = std::get<0>(top), &expert = std::get<1>(top);  // [N, top_k]
  return {expert, weight / weight.sum(-1, /*keepdim=*/true) *
                      per_expert_scale.index_select(0, expert.flatten()).view(expert.sizes())};
}

ExpertsImpl::ExpertsImpl(const TextConfig& config)
    : StackedExperts(config.num_experts, config.hidden_size, config.moe_intermediate_size) {}

Tensor ExpertsImpl::forward(const Tensor& x, const Routing& routing) {
  return StackedExperts::forward(x, routing.expert, routing.weight);
}

}  // namespace bezel::gemma4
