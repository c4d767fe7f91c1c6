#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bezel/kernels/tiled_gemm.h"
#include "bezel/quant/weight.h"

namespace bezel::quant {

/// Codes of a matrix [rows, columns] from which a few rows at a time can be made. A stack is one tall matrix.
class QuantizedMatrix {
 public:
  virtual ~QuantizedMatrix() = default;

  /// Rows [begin, begin + count) -> [count, columns] in `dtype`.
  virtual torch::Tensor make(std::int64_t begin, std::int64_t count, torch::ScalarType dtype) const = 0;
  /// Rows `index` (int64 [N]) -> [N, columns] in `dtype`.
  virtual torch::Tensor make_rows(const torch::Tensor& index, torch::ScalarType dtype) const = 0;
  /// Windows of rows [begin, begin + count), by their index among these; empty where there are none.
  virtual kernels::MakeWindow windows(std::int64_t /*begin*/, std::int64_t /*count*/) const { return {}; }
  /// x · Wᵀ of rows [begin, begin + count) for a single row x [1, columns], straight from the codes; undefined where
  /// there is no such product, and rows must be made for one.
  virtual torch::Tensor gemv(std::int64_t /*begin*/, std::int64_t /*count*/, const torch::Tensor& /*x*/) const {
    return {};
  }
  /// Weight::evict, pin and unpin.
  virtual void evict(std::int64_t /*first_row*/) const {}
  virtual void pin() const {}
  virtual void unpin() const {}
  virtual torch::Device device() const = 0;
  virtual std::int64_t bytes() const = 0;
  virtual std::string storage() const = 0;
  virtual std::shared_ptr<const QuantizedMatrix> to(torch::Device device) const = 0;
};

/// A weight of that shape, [out, in] or [experts, out, in], quantized. Products dequantize it tile by tile; no copy of
/// it in full precision is kept.
std::shared_ptr<const Weight> tiled_weight(std::shared_ptr<const QuantizedMatrix> codes,
                                           std::vector<std::int64_t> shape);

}  // namespace bezel::quant
