#include "bezel/quant/grown.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr std::int64_t kGrownSliceElements = std::int64_t{1} << 22;

class GrownWeight final : public Weight {
 public:
  GrownWeight(std::shared_ptr<const Weight> base, std::int64_t num_rows)
      : base_(std::move(base)), old_rows_(base_->shape().at(0)), new_rows_(num_rows - old_rows_) {
    TORCH_CHECK(base_->shape().size() == 2 && new_rows_ > 0, "a table of ", old_rows_, " rows does not grow to ",
                num_rows);
  }

  std::vector<std::int64_t> shape() const override { return {old_rows_ + new_rows_, base_->shape()[1]}; }
  torch::Device device() const override { return base_->device(); }
  std::int64_t bytes() const override { return base_->bytes() + base_->shape()[1] * std::int64_t{sizeof(float)}; }
  std::string storage() const override { return base_->storage(); }

  Tensor matmul(const Tensor& x) const override {
    const Tensor fresh = kernels::matmul_nt(x, mean().to(x.scalar_type()));  // [N, 1]
    return at::cat({base_->matmul(x), fresh.expand({-1, new_rows_})}, 1);
  }

  Tensor matmul_transposed(const Tensor& dy) const override {
    const Tensor of_new = dy.narrow(1, old_rows_, new_rows_).sum(1, /*keepdim=*/true);
    const Tensor fresh = kernels::matmul_nn(of_new, mean().to(dy.scalar_type()));
    return base_->matmul_transposed(dy.narrow(1, 0, old_rows_).contiguous()) + fresh;
  }

  Tensor rows(const Tensor& index, torch::ScalarType dtype) const override {
    const Tensor is_new = index >= old_rows_;
    if (kernels::may_loop(index) && !is_new.any().item<bool>()) return base_->rows(index, dtype);
    const Tensor found = base_->rows(index.masked_fill(is_new, 0), dtype);
    return at::where(is_new.unsqueeze(1), mean().to(dtype), found);
  }

  Tensor dequantize(torch::ScalarType dtype) const override {
    return at::cat({base_->dequantize(dtype), mean().to(dtype).expand({new_rows_, -1})});
  }

  void evict(std::int64_t first_row) const override {
    if (first_row < old_rows_) base_->evict(first_row);
  }
  void pin() const override { base_->pin(); }
  void unpin() const override { base_->unpin(); }
  std::shared_ptr<const Weight> select(std::int64_t expert) const override { return base_->select(expert); }
  std::shared_ptr<const Weight> to(torch::Device device) const override {
    return grown_weight(base_->to(device), old_rows_ + new_rows_);
  }

 private:
  // float32 [1, H]
  const Tensor& mean() const {
    std::call_once(once_, [this] { mean_ = make_mean(); });
    return mean_;
  }

  Tensor make_mean() const {
    const at::NoGradGuard no_grad;
    const std::int64_t width = base_->shape()[1], step = std::max<std::int64_t>(1, kGrownSliceElements / width);
    const auto ids = at::TensorOptions(at::kLong).device(base_->device());
    Tensor sum = at::zeros({1, width}, at::TensorOptions(at::kDouble).device(base_->device()));
    for (std::int64_t begin = 0; begin < old_rows_; begin += step) {
      const Tensor index = at::arange(begin, std::min(begin + step, old_rows_), ids);
      sum += base_->rows(index, torch::kFloat).sum(0, /*keepdim=*/true, torch::kDouble);
    }
    base_->evict(0);
    const Tensor mean = (sum / static_cast<double>(old_rows_)).to(torch::kFloat);
    return base_->storage() == "bfloat16" ? mean.to(torch::kBFloat16).to(torch::kFloat) : mean;
  }

  std::shared_ptr<const Weight> base_;
  std::int64_t old_rows_, new_rows_;
  mutable std::once_flag once_;
  mutable Tensor mean_;
};

}  // namespace

std::shared_ptr<const Weight> grown_weight(std::shared_ptr<const Weight> base, std::int64_t num_rows) {
  return std::make_shared<GrownWeight>(std::move(base), num_rows);
}

}  // namespace bezel::quant
