#pragma once

#include <memory>
#include <unordered_map>

#include <torch/nn/module.h>

namespace bezel::nn {

/// A and B of all adapters of a model, rounded to the dtype that a device multiplies them in. One kernel rounds them
/// for a whole pass, and those of layers over one input are contiguous, so that they form one matrix.
class NarrowFactors {
 public:
  /// The copies for the current values, on the device where the adapters are.
  NarrowFactors(const torch::nn::Module& root, torch::ScalarType dtype);

  /// The copy of an adapter's A or B; undefined where there is none.
  torch::Tensor of(const torch::Tensor& factor) const;

  /// Those of the pass that this thread computes; null: factors are rounded where they are multiplied.
  static const std::shared_ptr<const NarrowFactors>& current();

 private:
  std::unordered_map<const c10::TensorImpl*, torch::Tensor> copies_;
};

/// What a pass over `root` needs where activations are of `dtype`; null on the CPU, and where nothing is rounded.
std::shared_ptr<const NarrowFactors> narrow_factors(const torch::nn::Module& root, torch::ScalarType dtype,
                                                    torch::Device device);

/// Makes them the current ones of this thread while it lives. What runs again in the backward pass (nn/recompute) gets
/// those of the forward pass.
class ScopedNarrowFactors {
 public:
  explicit ScopedNarrowFactors(std::shared_ptr<const NarrowFactors> factors);
  ~ScopedNarrowFactors();
  ScopedNarrowFactors(const ScopedNarrowFactors&) = delete;
  ScopedNarrowFactors& operator=(const ScopedNarrowFactors&) = delete;

 private:
  std::shared_ptr<const NarrowFactors> outer_;
};

/// Matrices as one, row upon row or column beside column: without a copy where their storage is contiguous.
torch::Tensor stacked_rows(const std::vector<torch::Tensor>& parts);
torch::Tensor joined_columns(const std::vector<torch::Tensor>& parts);

}  // namespace bezel::nn
