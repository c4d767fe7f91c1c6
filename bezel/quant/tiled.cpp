#include "bezel/quant/tiled.h"

#include <ATen/ATen.h>

#include "bezel/kernels/matmul.h"

namespace bezel::quant {
namespace {

class TiledWeight final : public Weight {
 public:
  TiledWeight(std::shared_ptr<const QuantizedMatrix> codes, std::vector<std::int64_t> shape, std::int64_t first_row,
              bool is_part)
      : codes_(std::move(codes)), shape_(std::move(shape)), first_row_(first_row), is_part_(is_part) {
    TORCH_CHECK(shape_.size() == 2 || shape_.size() == 3, "a weight is a matrix or a stack of them");
  }

  std::vector<std::int64_t> shape() const override { return shape_; }
  torch::Device device() const override { return codes_->device(); }
  std::int64_t bytes() const override { return codes_->bytes(); }
  std::string storage() const override { return codes_->storage(); }

  torch::Tensor matmul(const torch::Tensor& x) const override {
    if (x.size(0) == 1)
      if (const torch::Tensor y = codes_->gemv(first_row_, shape_[0], x); y.defined()) return y;
    return kernels::matmul_nt(x, tiles(x));
  }
  torch::Tensor matmul_transposed(const torch::Tensor& dy) const override { return kernels::matmul_nn(dy, tiles(dy)); }

  void evict(std::int64_t first_row) const override { codes_->evict(first_row_ + first_row); }
  void pin() const override { codes_->pin(); }
  void unpin() const override { codes_->unpin(); }

  torch::Tensor rows(const torch::Tensor& index, torch::ScalarType dtype) const override {
    return codes_->make_rows(index + first_row_, dtype);
  }

  torch::Tensor dequantize(torch::ScalarType dtype) const override {
    const std::int64_t rows = shape_.size() == 3 ? shape_[0] * shape_[1] : shape_[0];
    return codes_->make(first_row_, rows, dtype).view(shape_);
  }

  std::shared_ptr<const Weight> select(std::int64_t expert) const override {
    TORCH_CHECK(shape_.size() == 3 && expert < shape_[0], "no expert ", expert, " in a weight of ", shape_);
    return std::make_shared<TiledWeight>(codes_, std::vector<std::int64_t>{shape_[1], shape_[2]},
                                         first_row_ + expert * shape_[1], true);
  }

  std::shared_ptr<const Weight> to(torch::Device device) const override {
    TORCH_CHECK(!is_part_, "one expert of a stack does not move between devices by itself");
    return std::make_shared<TiledWeight>(codes_->to(device), shape_, 0, false);
  }

 private:
  kernels::Tiles tiles(const torch::Tensor& x) const {
    return {shape_[0], shape_[1],
            // Rounded to x's dtype before a product multiplies it in float32, as a dense matrix is.
            [this, rounded = x.scalar_type()](std::int64_t begin, std::int64_t count, torch::ScalarType dtype) {
              return codes_->make(first_row_ + begin, count, rounded).to(dtype);
            },
            kernels::takes_windows(x) ? codes_->windows(first_row_, shape_[0]) : kernels::MakeWindow{}};
  }

  std::shared_ptr<const QuantizedMatrix> codes_;
  std::vector<std::int64_t> shape_;
  std::int64_t first_row_;
  bool is_part_;
};

}  // namespace

std::shared_ptr<const Weight> tiled_weight(std::shared_ptr<const QuantizedMatrix> codes,
                                           std::vector<std::int64_t> shape) {
  return std::make_shared<TiledWeight>(std::move(codes), std::move(shape), 0, false);
}

}  // namespace bezel::quant
