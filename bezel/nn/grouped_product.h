#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "bezel/nn/device_experts.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/low_rank_terms.h"
#include "bezel/nn/row_groups.h"

namespace bezel::nn {

/// Expert `expert` of an adapter over a stack of E, as an adapter of that matrix: a [rank, in] and b [out, rank]. `a`
/// shares the stack's memory, `b` is a view of columns E apart.
Adapter adapter_of_expert(const Adapter& stack, std::int64_t expert, std::int64_t num_experts);

/// One product over all experts that have rows: y = x W_eᵀ + scale * (x A_eᵀ) B_eᵀ for the rows of each expert e, and
/// its backward pass. Experts without rows are not touched. The stack is [E, out, in]; `tensors` are A [E*r, in] and B
/// [out, r*E] of its adapter, as Adapter holds them, or undefined.
class GroupedProduct {
 public:
  using Tensors = std::vector<torch::Tensor>;

  GroupedProduct(std::shared_ptr<const quant::Weight> stack, const Adapter* adapter);

  bool is_adapted() const { return num_tensors_ > 0; }
  std::size_t num_tensors() const { return num_tensors_; }

  struct Output {
    torch::Tensor y;  ///< [S, out], x's dtype
    torch::Tensor h;  ///< [S, r], x Aᵀ, for the backward pass; undefined without adapter
  };
  /// x [S, in], gathered.
  Output forward(const torch::Tensor& x, const RowGroups& rows, const Tensors& tensors) const;

  struct Gradients {
    torch::Tensor x;  ///< [S, in]; undefined where not wanted
    Tensors tensors;  ///< float32, like `tensors`; zero for experts without rows
  };
  /// dy [S, out]; x and h of the forward pass, or both times a factor for each row: then the gradients of A and B are
  /// those of dy times that factor, and that of x is not.
  Gradients backward(const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& h, const RowGroups& rows,
                     const Tensors& tensors, bool wants_input) const;

 private:
  // A and B of each group's expert, [r, in] and [out, r].
  std::vector<Tensors> tensors_of(const std::vector<RowGroup>& groups, const Tensors& tensors,
                                  torch::ScalarType dtype) const;

  std::optional<DeviceFactors> factors_on_device(const Tensors& tensors, torch::ScalarType dtype) const;

  std::shared_ptr<const quant::Weight> stack_;
  std::int64_t num_experts_ = 0;
  std::int64_t rank_ = 0;
  std::size_t num_tensors_ = 0;
  double scale_ = 1.0;
  LowRankTerms terms_;  // of one expert
  Tensors narrow_;      // A and B as NarrowFactors has them; empty: rounded where they are multiplied
};

}  // namespace bezel::nn
