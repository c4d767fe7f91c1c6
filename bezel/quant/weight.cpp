#include "bezel/quant/weight.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/kernels/gemv.h"
#include "bezel/kernels/matmul.h"
#include "bezel/quant/pin.h"
#include "bezel/quant/pinned_codes.h"

namespace bezel::quant {
namespace {

constexpr std::size_t kLargeBytes = std::size_t{4} << 20;  // below, most of a large page may stay empty

std::string lower_name(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat:
      return "float32";
    case torch::kBFloat16:
      return "bfloat16";
    case torch::kHalf:
      return "float16";
    default:
      return c10::toString(dtype);
  }
}

// A sum is finite only if every element is. Slice by slice: ATen would make a float32 copy of all of it.
bool is_finite(const torch::Tensor& matrix) {
  const torch::Tensor flat = matrix.flatten();
  constexpr std::int64_t kSlice = 1 << 20;
  for (std::int64_t begin = 0; begin < flat.size(0); begin += kSlice) {
    const torch::Tensor slice = flat.narrow(0, begin, std::min(kSlice, flat.size(0) - begin));
    if (!std::isfinite(slice.sum(torch::kFloat).item<float>())) return false;
  }
  return true;
}

class DenseWeight final : public Weight {
 public:
  DenseWeight(torch::Tensor tensor, std::string name, torch::ScalarType keep_as)
      : tensor_(std::move(tensor)), name_(std::move(name)), dtype_(keep_as) {
    TORCH_CHECK(tensor_.is_floating_point() && (tensor_.dim() == 2 || tensor_.dim() == 3),
                "a dense weight is a floating matrix or a stack of them, got ", tensor_.sizes(), " ", tensor_.dtype());
  }

  std::vector<std::int64_t> shape() const override { return tensor_.sizes().vec(); }
  torch::Device device() const override { return tensor_.device(); }
  std::int64_t bytes() const override { return tensor_.numel() * static_cast<std::int64_t>(c10::elementSize(dtype_)); }
  std::string storage() const override { return lower_name(dtype_); }

  torch::Tensor matmul(const torch::Tensor& x) const override {
    return kernels::has_gemv(x, ready()) ? kernels::gemv(x, ready()) : kernels::matmul_nt(x, ready());
  }

  torch::Tensor matmul_transposed(const torch::Tensor& dy) const override { return kernels::matmul_nn(dy, ready()); }

  torch::Tensor rows(const torch::Tensor& index, torch::ScalarType dtype) const override {
    if (tensor_.is_meta()) return at::empty({index.size(0), tensor_.size(1)}, tensor_.options().dtype(dtype));
    const torch::Tensor found = io::read_rows(tensor_, index).to(dtype_).to(dtype);
    if (found.is_cpu() && !std::isfinite(found.sum(torch::kFloat).item<float>()))
      throw Error("tensor '", name_, "': a row that was looked up holds NaN or Inf; the checkpoint is damaged");
    return found;
  }

  void pin() const override {
    if (!ready().is_cpu() || tensor_.nbytes() < kLargeBytes) return;
    unpinned_.pin(tensor_, [this] {
      if (!io::is_mapped(tensor_)) return tensor_;
      torch::Tensor copy = io::in_large_pages(tensor_);
      io::evict(tensor_);
      return copy;
    });
  }
  void unpin() const override { unpinned_.unpin(tensor_); }

  void evict(std::int64_t first_row) const override { io::evict(tensor_, first_row); }

  torch::Tensor dequantize(torch::ScalarType dtype) const override { return tensor_.to(dtype_).to(dtype); }

  // Each is kept, so that it is checked and converted once, and pages of unused ones are not read.
  std::shared_ptr<const Weight> select(std::int64_t expert) const override {
    const std::lock_guard lock(parts_mutex_);
    parts_.resize(static_cast<std::size_t>(tensor_.size(0)));
    std::shared_ptr<const Weight>& part = parts_.at(static_cast<std::size_t>(expert));
    if (!part)
      part =
          std::make_shared<DenseWeight>(tensor_.select(0, expert), name_ + "[" + std::to_string(expert) + "]", dtype_);
    return part;
  }

  std::shared_ptr<const Weight> to(torch::Device device) const override {
    if (!tensor_.is_cpu() || device.is_cpu())
      return std::make_shared<DenseWeight>(tensor_.to(device, dtype_), name_, dtype_);
    check(tensor_);  // here, where nothing waits for it
    const auto moved = std::make_shared<DenseWeight>(tensor_.to(device, dtype_), name_, dtype_);
    moved->is_checked_ = true;
    io::evict(tensor_);  // a file's pages are not read again
    return moved;
  }

 private:
  // The matrix in its dtype, checked when it is about to be read anyway.
  const torch::Tensor& ready() const {
    std::call_once(first_use_, [this] {
      tensor_ = tensor_.to(dtype_);
      if (!is_checked_) check(tensor_);
    });
    return tensor_;
  }

  void check(const torch::Tensor& matrix) const {
    if (matrix.is_meta() || is_finite(matrix)) return;
    throw Error("tensor '", name_, "': holds NaN or Inf; the checkpoint is damaged");
  }

  mutable torch::Tensor tensor_;  // [out, in] or [experts, out, in]
  mutable Unpinned<torch::Tensor> unpinned_;
  bool is_checked_ = false;  // for NaN and Inf, before it came to this device
  std::string name_;
  torch::ScalarType dtype_;
  mutable std::once_flag first_use_;
  mutable std::mutex parts_mutex_;
  mutable std::vector<std::shared_ptr<const Weight>> parts_;  // of a stack, those that were asked for
};

}  // namespace

Pin::Pin(std::shared_ptr<const Weight> weight) : weight_(std::move(weight)) { weight_->pin(); }

Pin::~Pin() {
  if (weight_) weight_->unpin();
}

std::shared_ptr<const Weight> dense_weight(torch::Tensor tensor, std::string name,
                                           std::optional<torch::ScalarType> keep_as) {
  const torch::ScalarType dtype = keep_as.value_or(tensor.scalar_type());
  return std::make_shared<DenseWeight>(std::move(tensor), std::move(name), dtype);
}

}  // namespace bezel::quant
