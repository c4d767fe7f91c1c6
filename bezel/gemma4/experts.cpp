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

ExpertsImpl::ExpertsImpl(const TextConfig& config) {
  const std::int64_t hidden = config.hidden_size, width = config.moe_intermediate_size;
  const auto role = nn::MatrixRole::kExperts;
  expect("gate_up_proj", {config.num_experts, 2 * width, hidden}, gate_up_proj, role, /*quantizable=*/true);
  expect("down_proj", {config.num_experts, hidden, width}, down_proj, role, /*quantizable=*/true);
}

Tensor ExpertsImpl::forward(const Tensor& x, const Routing& routing) {
  const std::int64_t top_k = routing.expert.size(1);
  const Tensor chosen = routing.expert.flatten();                                    // [N * top_k]
  const Tensor order = std::get<1>(at::sort(chosen, std::optional<bool>(true), 0));  // slots, expert by expert
  const Tensor counts = at::bincount(chosen, {}, gate_up_proj->shape()[0]).to(torch::kCPU);
  const Tensor weights = routing.weight.flatten();
  Tensor out = at::zeros_like(x);
  std::int64_t begin = 0;
  for (std::int64_t expert = 0; expert < counts.size(0); ++expert) {
    const std::int64_t count = counts[expert].item<std::int64_t>();
    if (count == 0) continue;
    const Tensor slots = order.narrow(0, begin, count);
    begin += count;
    const Tensor rows = at::div(slots, top_k, "floor");
    const auto halves = nn::frozen_product(x.index_select(0, rows), gate_up_proj->select(expert)).chunk(2, -1);
    const Tensor y = nn::frozen_product(nn::geglu(halves[0], halves[1]), down_proj->select(expert));
    out = out.index_add(0, rows, (y * weights.index_select(0, slots).unsqueeze(1)).to(x.scalar_type()));
  }
  return out;
}

}  // namespace bezel::gemma4
