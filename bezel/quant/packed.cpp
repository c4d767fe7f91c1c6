#include "bezel/quant/packed.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/kernels/unpack.h"
#include "bezel/quant/pinned_codes.h"
#include "bezel/quant/tiled.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr std::int64_t kCheckedRows = 256;  // at a time, on their first use: experts that no token chose are not read

class PackedQuantized final : public QuantizedMatrix {
 public:
  PackedQuantized(Tensor rows, io::GgufType type, std::string name)
      : rows_(std::move(rows)),
        type_(type),
        name_(std::move(name)),
        checked_(static_cast<std::size_t>((rows_.size(0) + kCheckedRows - 1) / kCheckedRows)) {}

  Tensor make(std::int64_t begin, std::int64_t count, torch::ScalarType dtype) const override {
    check_once(begin, count);
    return kernels::unpack(rows_.narrow(0, begin, count), type_, dtype);
  }
  Tensor gemv(std::int64_t begin, std::int64_t count, const Tensor& x) const override {
    if (!kernels::has_packed_product(x, rows_)) return {};
    check_once(begin, count);
    return kernels::packed_product(x, rows_.narrow(0, begin, count), type_);
  }
  Tensor make_rows(const Tensor& index, torch::ScalarType dtype) const override {
    const Tensor found = io::read_rows(rows_, index);
    check(found, "a row that was looked up holds");
    return kernels::unpack(found, type_, dtype);
  }
  void evict(std::int64_t first_row) const override { io::evict(rows_, first_row); }
  void pin() const override {
    unpinned_.pin(rows_, [this] { return pinned_codes(rows_); });
  }
  void unpin() const override { unpinned_.unpin(rows_); }
  torch::Device device() const override { return rows_.device(); }
  std::int64_t bytes() const override { return static_cast<std::int64_t>(rows_.nbytes()); }
  std::string storage() const override { return std::string(io::gguf_type_info(type_).name); }
  std::shared_ptr<const QuantizedMatrix> to(torch::Device device) const override {
    return std::make_shared<PackedQuantized>(rows_.to(device), type_, name_);
  }

 private:
  void check(const Tensor& rows, const char* what) const {
    if (!rows.is_meta() && !kernels::has_finite_scales(rows, type_))
      throw Error("tensor '", name_, "': ", what, " a scale that is NaN or Inf; the file is damaged");
  }

  void check_once(std::int64_t begin, std::int64_t count) const {
    for (std::int64_t part = begin / kCheckedRows; part * kCheckedRows < begin + count; ++part) {
      std::atomic<bool>& checked = checked_.at(static_cast<std::size_t>(part));
      if (checked.load()) continue;
      const std::int64_t first = part * kCheckedRows;
      check(rows_.narrow(0, first, std::min(kCheckedRows, rows_.size(0) - first)), "holds");
      checked.store(true);
    }
  }

  mutable Tensor rows_;  // uint8 [rows, bytes of a row]
  mutable Unpinned<Tensor> unpinned_;
  io::GgufType type_;
  std::string name_;
  mutable std::vector<std::atomic<bool>> checked_;
};

}  // namespace

std::shared_ptr<const Weight> packed_weight(Tensor rows, io::GgufType type, std::vector<std::int64_t> shape,
                                            std::string name) {
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  std::int64_t elements = 1;
  for (const std::int64_t dim : shape) elements *= dim;
  TORCH_CHECK(rows.dim() == 2 && rows.scalar_type() == torch::kByte &&
                  rows.size(1) * info.block_elements == shape.back() * info.block_bytes &&
                  rows.size(0) * shape.back() == elements,
              "packed rows of shape ", rows.sizes(), " in ", info.name, " are no matrix of shape ", shape);
  return tiled_weight(std::make_shared<PackedQuantized>(std::move(rows), type, std::move(name)), std::move(shape));
}

}  // namespace bezel::quant
