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
    expect("weight", {num_rows, width}, weight, /*quantizable=*/false);
  }

  /// ids int64 [...] -> [..., H] in `dtype`. The scale is rounded to `dtype` first, as the reference does.
  torch::Tensor forward(const torch::Tensor& ids, torch::ScalarType dtype) {
    TORCH_CHECK(weight, "this embedding has no weight yet: load a checkpoint first");
    std::vector<std::int64_t> shape = ids.sizes().vec();
    shape.push_back(weight->shape()[1]);
    const torch::Tensor rows = look_up(ids.reshape({-1}), dtype);
    const double rounded = dtype == torch::kBFloat16 ? static_cast<float>(c10::BFloat16(static_cast<float>(scale)))
                                                     : static_cast<float>(scale);
    return (rows * rounded).view(shape);
  }

  std::shared_ptr<const quant::Weight> weight;
  double scale;
  bool is_head = false;  ///< the head is this table, too

 private:
  // A page of up to 2 MiB comes with each row of a mapped file: they go back before they add up to the whole table.
  // Not while text is written token by token by a model that reads all of the table for each.
  torch::Tensor look_up(const torch::Tensor& ids, torch::ScalarType dtype) const {
    constexpr std::int64_t kRows = 64;
    std::vector<torch::Tensor> parts;
    for (const torch::Tensor& some : ids.split(kRows)) {
      parts.push_back(weight->rows(some, dtype));
      if (ids.size(0) > 1 || !is_head) weight->release_pages();
    }
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  }
};
TORCH_MODULE(Embedding);

}  // namespace bezel::nn
