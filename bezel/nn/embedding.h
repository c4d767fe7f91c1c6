#pragma once

#include <memory>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/pimpl.h>

#include "bezel/nn/module.h"
#include "bezel/quant/weight.h"

namespace bezel::nn {

/// A frozen table `weight` [V, H] whose rows are multiplied by `scale`. Rows are read where they lie (a mapped file),
/// only those that are looked up. Reference: Gemma4TextScaledWordEmbedding.
class EmbeddingImpl : public Module {
 public:
  EmbeddingImpl(std::int64_t num_rows, std::int64_t width, double scale) : scale(scale) {
    expect("weight", {num_rows, width}, weight, MatrixRole::kEmbedding, /*quantizable=*/false);
  }

  /// ids int64 [...] -> [..., H] in `dtype`. The scale is rounded to `dtype` first, as the reference does.
  torch::Tensor forward(const torch::Tensor& ids, torch::ScalarType dtype) {
    TORCH_CHECK(weight, "this embedding has no weight yet: load a checkpoint first");
    std::vector<std::int64_t> shape = ids.sizes().vec();
    shape.push_back(weight->shape()[1]);
    const torch::Tensor rows = weight->rows(ids.reshape({-1}), dtype);
    const double rounded = dtype == torch::kBFloat16 ? static_cast<float>(c10::BFloat16(static_cast<float>(scale)))
                                                     : static_cast<float>(scale);
    return (rows * rounded).view(shape);
  }

  std::shared_ptr<const quant::Weight> weight;
  double scale;
};
TORCH_MODULE(Embedding);

}  // namespace bezel::nn
