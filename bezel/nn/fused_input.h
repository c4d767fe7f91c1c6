#pragma once

#include <utility>
#include <vector>

#include <torch/types.h>

namespace bezel::nn {

/// Input of a Linear: a tensor, or a cheap function (RMSNorm, SiLU, GEGLU) of tensors that autograd saves anyway.
/// The backward pass recomputes it instead of saving it.
class FusedInput {
 public:
  FusedInput() = default;
  /// x [..., H] itself.
  FusedInput(torch::Tensor x) : sources_{std::move(x)} {}  // NOLINT: so that layers take a plain tensor
  /// rms_norm(x, weight, eps): x [..., H], weight [H]. Made at once where the weight wants a gradient.
  static FusedInput normed(torch::Tensor x, torch::Tensor weight, double eps);
  /// silu(x): x [..., F].
  static FusedInput silu(torch::Tensor x);
  /// geglu(gate, up): both [..., F].
  static FusedInput gated(torch::Tensor gate, torch::Tensor up);

  /// Whether it is made of something, rather than given.
  bool is_made() const { return kind_ != Kind::kGiven; }
  /// What it is made from.
  const std::vector<torch::Tensor>& sources() const { return sources_; }
  /// The input as a part of the graph.
  torch::Tensor value() const;

  /// The input's rows [N, H] from its sources' rows, and what its gradient needs.
  struct Made {
    torch::Tensor rows;
    torch::Tensor inverse;  ///< of the norm
  };
  Made make(const std::vector<torch::Tensor>& sources) const;
  /// Gradients with respect to the sources' rows from that with respect to the input's.
  std::vector<torch::Tensor> gradients(const std::vector<torch::Tensor>& sources, const torch::Tensor& inverse,
                                       const torch::Tensor& d_rows) const;
  /// The same kind of input without its sources, which a graph must not keep twice.
  FusedInput without_sources() const;

 private:
  enum class Kind { kGiven, kNormed, kSilu, kGated };

  Kind kind_ = Kind::kGiven;
  std::vector<torch::Tensor> sources_;
  torch::Tensor weight_;  // float32 [H]
  double eps_ = 0.0;
};

}  // namespace bezel::nn
