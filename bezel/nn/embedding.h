#pragma once

#include <memory>
#include <vector>

#include <ATen/ATen.h>
#include <torch/nn/pimpl.h>

#include "bezel/nn/module.h"
#include "bezel/quant/weight.h"

namespace bezel::nn {

struct TrainedTable;

/// A table `weight` [V, H] whose rows are multiplied by `scale`. Rows are read in place (a mapped file),
/// only those that are looked up. Frozen, but for what is
/// `trained` of it. Reference: Gemma4TextScaledWordEmbedding.
class EmbeddingImpl : public Module {
 public:
  EmbeddingImpl(std::int64_t num_rows, std::int64_t width, double scale) : scale(scale) {
    expect("weight", {num_rows, width}, weight, MatrixRole::kEmbedding, /*quantizable=*/false);
  }

  /// ids int64 [...] -> [..., H] in `dtype`. The scale is rounded to `dtype` first, as the reference does.
  torch::Tensor forward(const torch::Tensor& ids, torch::ScalarType dtype);

  std::shared_ptr<const quant::Weight> weight;
  double scale;
  std::int64_t padding_id = -1;                 ///< whose row is not trained
  std::shared_ptr<const TrainedTable> trained;  ///< null: frozen
};
TORCH_MODULE(Embedding);

}  // namespace bezel::nn
