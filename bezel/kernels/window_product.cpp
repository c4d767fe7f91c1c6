#include "bezel/kernels/window_product.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/functions.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;

constexpr std::int64_t kWidth = simd::kPackedWidth;  // columns of the result that are done at a time
constexpr std::int64_t kInner = 256;                 // of the sum: what a packed window of 32 KiB holds
constexpr std::int64_t kRows = 4;                    // a product takes rows in such groups

// The rows of x, padded to whole groups.
Tensor whole_groups(const Tensor& x) {
  const std::int64_t missing = (kRows - x.size(0) % kRows) % kRows;
  return missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, 0, 0, missing});
}

// What one thread works in.
class Panel {
 public:
  explicit Panel(const Tensor& x)
      : x_(simd::bf16(x)), rows_(x.size(0)), inner_(x.size(1)), window_(kWidth * kInner), packed_(kWidth * kInner) {
    sums_.resize(static_cast<std::size_t>(rows_ * kWidth));
  }

  Bf16* window() { return window_.data(); }
  Bf16* packed() { return packed_.data(); }
  // Adds what rows [first, first + count) of the packed factor give.
  void add(std::int64_t first, std::int64_t count) {
    simd::products().product(
        {x_ + first, packed_.data(), sums_.data(), rows_, kWidth, count, inner_, kWidth, kWidth, first > 0});
  }
  void store(Tensor& y, std::int64_t column, std::int64_t columns) const {
    simd::products().round({sums_.data(), kWidth, simd::bf16(y) + column, y.size(1), y.size(0), columns});
  }

 private:
  const Bf16* x_;
  std::int64_t rows_, inner_;
  std::vector<Bf16> window_, packed_;
  std::vector<float> sums_;  // [rows, kWidth]
};

// `fill` packs the rows [first, first + count) of a right factor's columns [column, column + kWidth) into a panel.
template <typename Fill>
Tensor product(const Tensor& given, std::int64_t columns, const Fill& fill) {
  const Tensor x = whole_groups(given);
  Tensor y = at::empty({given.size(0), columns}, given.options());
  at::parallel_for(0, (columns + kWidth - 1) / kWidth, 1, [&](std::int64_t begin, std::int64_t end) {
    Panel panel(x);
    for (std::int64_t column = begin * kWidth; column < std::min(end * kWidth, columns); column += kWidth) {
      const std::int64_t width = std::min(kWidth, columns - column);
      for (std::int64_t first = 0; first < x.size(1); first += kInner) {
        const std::int64_t count = std::min(kInner, x.size(1) - first);
        fill(panel, Window{first, count, column, width});
        panel.add(first, count);
      }
      panel.store(y, column, width);
    }
  });
  return y;
}

}  // namespace

bool takes_windows(const Tensor& x) {
  static const bool fast = simd::has_bf16_products() && !at::native::cpublas::could_pack(torch::kBFloat16);
  return fast && x.is_cpu() && x.scalar_type() == torch::kBFloat16 && x.size(0) > 1 &&
         !widens(torch::kBFloat16, torch::kCPU);
}

Tensor window_product_nt(const Tensor& x, std::int64_t rows, const MakeWindow& w) {
  return product(x, rows, [&w](Panel& panel, const Window& factor) {
    w({factor.column, factor.columns, factor.row, factor.rows}, panel.window());
    std::fill(panel.window() + factor.columns * factor.rows, panel.window() + kWidth * factor.rows, Bf16{0});
    simd::products().pack_transposed({panel.window(), factor.rows, factor.rows, panel.packed()});
  });
}

Tensor window_product_nn(const Tensor& x, std::int64_t columns, const MakeWindow& w) {
  return product(x, columns, [&w](Panel& panel, const Window& factor) {
    w(factor, panel.window());
    simd::products().pack({panel.window(), factor.columns, factor.rows, panel.packed()});
  });
}

}  // namespace bezel::kernels
