#include "bezel/nn/embedding.h"

#include "bezel/nn/trained_table.h"

namespace bezel::nn {

using torch::Tensor;

Tensor EmbeddingImpl::forward(const Tensor& ids, torch::ScalarType dtype) {
  TORCH_CHECK(weight, "this embedding has no weight yet: load a checkpoint first");
  std::vector<std::int64_t> shape = ids.sizes().vec();
  shape.push_back(weight->shape()[1]);
  const Tensor flat = ids.reshape({-1});
  Tensor rows = weight->rows(flat, dtype);
  if (trained) rows = trained_rows(*trained, rows, flat);
  const double rounded = dtype == torch::kBFloat16 ? static_cast<float>(c10::BFloat16(static_cast<float>(scale)))
                                                   : static_cast<float>(scale);
  return (rows * rounded).view(shape);
}

}  // namespace bezel::nn
