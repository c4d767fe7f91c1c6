#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "bezel/kernels/low_rank.h"
#include "bezel/nn/linear.h"

namespace bezel::nn {

/// What the adapters of several layers over one input x [N, in] add: layer i adds scale_i * (x A_iᵀ) B_iᵀ to its
/// output. All As are one product, h = x Aᵀ [N, R], R the sum of their ranks; on a device h and its gradient carry the
/// scale. `tensors` are those of each adapted layer in turn, as Adapter::tensors() gives them; gradients come in the
/// same order.
class LowRankTerms {
 public:
  using Tensors = std::vector<torch::Tensor>;

  /// Adds the next layer's; null: the layer has no adapter. `norms` are those of DoRA, see nn/dora.h.
  void add(const Adapter* adapter, torch::Tensor norms = {});
  /// Of the adapters added, to be given to the graph.
  static void append_tensors(const Adapter* adapter, Tensors& tensors);

  bool empty() const { return num_adapted_ == 0; }
  std::size_t num_tensors() const { return num_tensors_; }
  bool is_dora(std::size_t layer) const { return terms_[layer].norms.defined(); }
  /// DoRA's s [out] of a layer.
  torch::Tensor factor(std::size_t layer, const Tensors& tensors) const;
  /// Puts the gradient of a layer's magnitude into `d_tensors`, from dy [N, out] and what s multiplies, [N, out].
  void backward_factor(std::size_t layer, const torch::Tensor& dy, const torch::Tensor& product,
                       Tensors& d_tensors) const;

  /// h [N, R] of x [N, in].
  torch::Tensor project(const torch::Tensor& x, const Tensors& tensors) const;
  /// What layer `layer` adds to its output; an empty term where it has no adapter.
  kernels::LowRank output_term(std::size_t layer, const torch::Tensor& h, const Tensors& tensors) const;

  /// Backward pass of layer `layer` from dy [N, out]: keeps what the gradients of h need in `dh`, one entry for each
  /// adapted layer, and with `wants_tensors` puts the gradient of its B into `d_tensors`.
  void backward_output(std::size_t layer, const torch::Tensor& dy, const torch::Tensor& h, const Tensors& tensors,
                       bool wants_tensors, Tensors& dh, Tensors& d_tensors) const;
  /// Puts the gradients of all As into `d_tensors`, from what entered them, x [N, in].
  void backward_project(const Tensors& dh, const torch::Tensor& x, Tensors& d_tensors) const;
  /// What the adapters add to the gradient of x.
  kernels::LowRank input_term(const Tensors& dh, const Tensors& tensors) const;

 private:
  struct Term {
    std::int64_t rank = 0;  // 0: the layer has no adapter
    double scale = 0.0;
    std::int64_t first = 0;  // column of h
    std::size_t index = 0;   // among the adapted layers
    std::size_t tensor = 0;  // A among the tensors; B and the magnitude follow
    torch::Tensor norms{};   // [out], of DoRA
    torch::Tensor a{}, b{};  // as NarrowFactors has them; undefined: rounded where they are multiplied
  };

  torch::Tensor scaled(const torch::Tensor& h, const Term& term) const;
  std::optional<double> common_scale() const;
  torch::Tensor stacked_a(const Tensors& tensors, torch::ScalarType dtype) const;
  torch::Tensor factor_b(const Term& term, const Tensors& tensors, torch::ScalarType dtype) const;
  torch::Tensor project_on_device(const torch::Tensor& x, const Tensors& tensors) const;
  void backward_output_on_device(const Term& term, const torch::Tensor& dy, const torch::Tensor& h,
                                 const Tensors& tensors, bool wants_tensors, Tensors& dh, Tensors& d_tensors) const;

  std::vector<Term> terms_;  // one for each layer
  std::int64_t sum_ranks_ = 0;
  std::size_t num_adapted_ = 0;
  std::size_t num_tensors_ = 0;
};

}  // namespace bezel::nn
