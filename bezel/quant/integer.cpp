#include "bezel/quant/integer.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/kernels/gemv.h"
#include "bezel/quant/pinned_codes.h"
#include "bezel/quant/tiled.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr float kOneOver127 = 7.874015718698502e-3f;

std::int64_t rows_of(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end() - 1, std::int64_t{1}, std::multiplies<>());
}

class IntegerQuantized final : public QuantizedMatrix {
 public:
  explicit IntegerQuantized(IntegerMatrix matrix) : matrix_(std::move(matrix)), columns_(matrix_.shape.back()) {}

  Tensor make(std::int64_t begin, std::int64_t count, torch::ScalarType dtype) const override {
    return values(matrix_.codes.narrow(0, begin, count), matrix_.scales.narrow(0, begin, count), dtype);
  }
  Tensor make_rows(const Tensor& index, torch::ScalarType dtype) const override {
    return values(matrix_.codes.index_select(0, index), matrix_.scales.index_select(0, index), dtype);
  }
  Tensor gemv(std::int64_t begin, std::int64_t count, const Tensor& x) const override {
    if (matrix_.bits != 8 || matrix_.zero != 0 || matrix_.scales.size(1) != 1) return {};
    const Tensor codes = matrix_.codes.narrow(0, begin, count);
    if (!kernels::has_gemv_int8(x, codes)) return {};
    return kernels::gemv_int8(x, codes, matrix_.scales.narrow(0, begin, count), matrix_.factor);
  }

  void pin() const override {
    unpinned_codes_.pin(matrix_.codes, [this] { return pinned_codes(matrix_.codes); });
  }
  void unpin() const override { unpinned_codes_.unpin(matrix_.codes); }

  torch::Device device() const override { return matrix_.codes.device(); }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(matrix_.codes.nbytes() + matrix_.scales.nbytes());
  }
  std::string storage() const override { return "int" + std::to_string(matrix_.bits); }
  std::shared_ptr<const QuantizedMatrix> to(torch::Device device) const override {
    IntegerMatrix moved = matrix_;
    moved.codes = moved.codes.to(device);
    moved.scales = moved.scales.to(device);
    return std::make_shared<IntegerQuantized>(std::move(moved));
  }

 private:
  // codes [N, in * bits / 8], scales [N, groups] -> [N, in]
  Tensor values(const Tensor& codes, const Tensor& scales, torch::ScalarType dtype) const {
    Tensor wide = codes;
    if (matrix_.bits == 4) wide = at::stack({codes.bitwise_and(15), codes.div(16, "floor")}, -1).flatten(1);
    // Half precision holds every code exactly; the product is rounded once, as in value_dtype it would be.
    Tensor value = wide.to(torch::kFloat);
    if (matrix_.zero != 0) value.sub_(static_cast<double>(matrix_.zero));
    const std::int64_t groups = scales.size(1);
    value.view({codes.size(0), groups, -1}).mul_(scales.to(torch::kFloat).unsqueeze(2));
    if (matrix_.factor != 1.0f) value.mul_(static_cast<double>(matrix_.factor));
    return value.to(matrix_.value_dtype).to(dtype);
  }

  mutable IntegerMatrix matrix_;
  mutable Unpinned<Tensor> unpinned_codes_;
  std::int64_t columns_;
};

void check(const IntegerMatrix& matrix, const std::string& name) {
  const std::int64_t rows = rows_of(matrix.shape), columns = matrix.shape.back();
  const std::int64_t bytes = columns * matrix.bits / 8;
  if (matrix.codes.dim() != 2 || matrix.codes.size(0) != rows || matrix.codes.size(1) != bytes)
    throw Error("tensor '", name, "': the codes have shape ", matrix.codes.sizes(), ", a matrix of ", rows, " x ",
                columns, " in ", matrix.bits, " bits needs [", rows, ", ", bytes, "]");
  const std::int64_t groups = matrix.group_size > 0 ? columns / matrix.group_size : 0;
  if (groups * matrix.group_size != columns || matrix.scales.dim() != 2 || matrix.scales.size(0) != rows ||
      matrix.scales.size(1) != groups)
    throw Error("tensor '", name, "': the scales have shape ", matrix.scales.sizes(), ", ", rows, " rows in groups of ",
                matrix.group_size, " need [", rows, ", ", groups, "]");
  if (!matrix.scales.isfinite().all().item<bool>())
    throw Error("tensor '", name, "': a scale is NaN or Inf; the quantized checkpoint is damaged");
}

}  // namespace

IntegerMatrix quantize_int8(const Tensor& source) {
  TORCH_CHECK(source.is_floating_point(), "quantizes floating matrices");
  IntegerMatrix matrix;
  matrix.shape = source.sizes().vec();
  matrix.group_size = matrix.shape.back();
  matrix.factor = kOneOver127;
  matrix.value_dtype = source.scalar_type();
  const Tensor rows = source.contiguous().view({-1, matrix.group_size});
  matrix.codes = at::empty(rows.sizes(), rows.options().dtype(torch::kChar));
  matrix.scales = at::empty({rows.size(0), 1}, rows.options().dtype(torch::kFloat));
  const std::int64_t step = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / matrix.group_size);
  for (std::int64_t begin = 0; begin < rows.size(0); begin += step) {
    const std::int64_t count = std::min(step, rows.size(0) - begin);
    const Tensor x = rows.narrow(0, begin, count);
    const Tensor largest = std::get<0>(x.abs().max(1)).to(torch::kFloat).unsqueeze(1);  // [count, 1]
    // 127 / 0 times 0 is no number; such a row is all zeros.
    const Tensor codes = at::round(x.to(torch::kFloat) * (largest.reciprocal() * 127.0)).masked_fill(largest == 0, 0.0);
    matrix.codes.narrow(0, begin, count).copy_(codes);
    matrix.scales.narrow(0, begin, count).copy_(largest);
  }
  return matrix;
}

Tensor dequantize(const IntegerMatrix& matrix) {
  return IntegerQuantized(matrix).make(0, rows_of(matrix.shape), matrix.value_dtype).view(matrix.shape);
}

std::shared_ptr<const Weight> integer_weight(IntegerMatrix matrix, const std::string& name) {
  check(matrix, name);
  std::vector<std::int64_t> shape = matrix.shape;
  return tiled_weight(std::make_shared<IntegerQuantized>(std::move(matrix)), std::move(shape));
}

}  // namespace bezel::quant
