#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "bezel/nn/linear.h"
#include "bezel/nn/module.h"

namespace bezel::nn {

/// One stacked matrix of a mixture of experts, [E, out, in], and what adapts it.
struct ExpertStack {
  std::shared_ptr<const quant::Weight> weight;
  /// a [E * rank, in], the rows of an expert together; b [out, rank * E], those of an expert E columns apart. Without
  /// dropout: what PEFT's ParamWrapper adds to the matrices, of which no input can be dropped out.
  std::optional<Adapter> adapter;
};

/// Stacked experts gate_up_proj [E, 2F, H] and down_proj [E, H, F], each of which computes
/// down(gelu(gate x) * up x) for the rows that are sent to it. Reference: Gemma4TextExperts.
class StackedExperts : public Module {
 public:
  StackedExperts(std::int64_t num_experts, std::int64_t hidden_size, std::int64_t intermediate_size);

  /// x [N, H] -> [N, H]: for each row the sum of weight * expert(row) over its K experts. `chosen` int64 [N, K],
  /// `weight` float32 [N, K]. `chosen` is read back to the host. Keeps gate and up of the gathered rows for the
  /// backward pass.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& chosen, const torch::Tensor& weight);

  /// By the name of the tensor; null for another.
  ExpertStack* stack(std::string_view name);
  std::int64_t num_experts() const { return num_experts_; }

  ExpertStack gate_up_proj, down_proj;

 private:
  std::int64_t num_experts_;
};

}  // namespace bezel::nn
