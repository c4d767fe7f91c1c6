#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

namespace bezel::quant {

/// A frozen matrix [out, in], or a stack of them [experts, out, in]. The only type that knows how it is stored;
/// results are always in the dtype of the activations given, never in that of the storage.
/// The first use of a matrix checks it for NaN and Inf and throws Error with its name.
class Weight {
 public:
  virtual ~Weight() = default;

  /// [out, in] or [experts, out, in]
  virtual std::vector<std::int64_t> shape() const = 0;
  virtual torch::Device device() const = 0;
  /// Bytes that the stored form takes.
  virtual std::int64_t bytes() const = 0;
  /// How the matrix is stored: "bfloat16", "float32", …
  virtual std::string storage() const = 0;

  /// x · Wᵀ; x [N, in] -> [N, out], x's dtype.
  virtual torch::Tensor matmul(const torch::Tensor& x) const = 0;
  /// dy · W; dy [N, out] -> [N, in], dy's dtype.
  virtual torch::Tensor matmul_transposed(const torch::Tensor& dy) const = 0;
  /// Rows `index` (int64 [N]) of the matrix -> [N, in] in `dtype`.
  virtual torch::Tensor rows(const torch::Tensor& index, torch::ScalarType dtype) const = 0;
  /// The whole matrix in `dtype`.
  virtual torch::Tensor dequantize(torch::ScalarType dtype) const = 0;
  /// Evicts the pages of a mapped file that hold rows from `first_row` on; they are read again when they are used.
  virtual void evict(std::int64_t /*first_row*/) const {}
  /// See quant::Pin, which calls both.
  virtual void pin() const {}
  virtual void unpin() const {}
  /// Matrix `expert` of a stack; shares the storage.
  virtual std::shared_ptr<const Weight> select(std::int64_t expert) const = 0;
  /// The same matrix on another device.
  virtual std::shared_ptr<const Weight> to(torch::Device device) const = 0;
};

/// Wraps a floating tensor [out, in] or [experts, out, in] without copying it. `name` is for errors. With `keep_as` the
/// matrix is converted to that dtype when it is first used, and the source let go.
std::shared_ptr<const Weight> dense_weight(torch::Tensor tensor, std::string name,
                                           std::optional<torch::ScalarType> keep_as = std::nullopt);

}  // namespace bezel::quant
