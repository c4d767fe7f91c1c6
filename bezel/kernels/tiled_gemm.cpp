#include "bezel/kernels/tiled_gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;

constexpr std::int64_t kWidth = simd::kPackedWidth;  // columns of the result that are done at a time
static_assert(simd::kFp32Width == kWidth);
constexpr std::int64_t kInner = 256;  // of the sum: what a packed window of 32 KiB holds
constexpr std::int64_t kRows = 4;     // a product takes rows in such groups

// With the processor's products of bfloat16.
struct Native {
  using Factor = Bf16;

  static Tensor left(const Tensor& x) {
    const std::int64_t missing = (kRows - x.size(0) % kRows) % kRows;
    return missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, 0, 0, missing});
  }
  static void pack(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack({from.data, from.ld, rows, to});
  }
  static void pack_transposed(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack_transposed({from.data, from.ld, rows, to});
  }
  static void add(const Tensor& x, const Window& part, const Factor* packed, float* sums) {
    simd::products().product({simd::bf16(x) + part.row, packed, sums, x.size(0), kWidth, part.rows, x.size(1), kWidth,
                              kWidth, part.row > 0});
  }
};

// In float32.
struct Wide {
  using Factor = float;

  static Tensor left(const Tensor& given) {
    const Tensor x = given.contiguous();
    Tensor wide = at::empty(x.sizes(), x.options().dtype(torch::kFloat));
    at::parallel_for(0, x.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
      simd::fp32_gemm_kernels().widen(simd::bf16(x) + begin, wide.data_ptr<float>() + begin, end - begin);
    });
    return wide;
  }
  static void pack(const WindowRows& from, std::int64_t rows, std::int64_t columns, Factor* to) {
    simd::fp32_gemm_kernels().pack({from.data, from.ld, rows, columns, to});
  }
  static void pack_transposed(const WindowRows& from, std::int64_t rows, std::int64_t columns, Factor* to) {
    simd::fp32_gemm_kernels().pack_transposed({from.data, from.ld, rows, columns, to});
  }
  static void add(const Tensor& x, const Window& part, const Factor* packed, float* sums) {
    simd::fp32_gemm_kernels().product({x.const_data_ptr<float>() + part.row, packed, sums, x.size(0), part.columns,
                                       part.rows, x.size(1), part.row > 0});
  }
};

// What one thread works in.
template <typename Engine>
class Panel {
 public:
  explicit Panel(const Tensor& x) : x_(x), window_(kWidth * kInner), packed_(kWidth * kInner) {
    sums_.resize(static_cast<std::size_t>(x.size(0) * kWidth));
  }

  Bf16* window() { return window_.data(); }
  typename Engine::Factor* packed() { return packed_.data(); }
  // Adds what a packed part of B gives.
  void add(const Window& part) { Engine::add(x_, part, packed_.data(), sums_.data()); }
  void store(Tensor& y, std::int64_t column, std::int64_t columns) const {
    simd::products().round({sums_.data(), kWidth, simd::bf16(y) + column, y.size(1), y.size(0), columns});
  }

 private:
  const Tensor& x_;
  std::vector<Bf16> window_;
  std::vector<typename Engine::Factor> packed_;
  std::vector<float> sums_;  // [rows, kWidth]
};

// `fill` packs a part of B, whose columns are those of the result.
template <typename Engine, typename Fill>
Tensor product(const Tensor& given, std::int64_t columns, const Fill& fill) {
  const Tensor x = Engine::left(given);
  Tensor y = at::empty({given.size(0), columns}, given.options());
  const std::int64_t panels = (columns + kWidth - 1) / kWidth, threads = at::get_num_threads();
  // Few columns, such as those of an adapter's rank: threads share the rows.
  const std::int64_t shares = panels < threads ? threads : 1, wanted = (x.size(0) + shares - 1) / shares;
  const std::int64_t rows_each = (wanted + kRows - 1) / kRows * kRows;
  at::parallel_for(0, panels * shares, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t share = begin / panels; share * panels < end; ++share) {
      const std::int64_t first = share * rows_each, count = std::min(rows_each, y.size(0) - first);
      if (count <= 0) return;
      const Tensor part_x = x.narrow(0, first, std::min(rows_each, x.size(0) - first));
      Tensor part_y = y.narrow(0, first, count);
      Panel<Engine> panel(part_x);
      for (std::int64_t i = std::max(begin, share * panels); i < std::min(end, (share + 1) * panels); ++i) {
        const std::int64_t column = (i - share * panels) * kWidth;
        Window part{0, 0, column, std::min(kWidth, columns - column)};
        for (; part.row < x.size(1); part.row += kInner) {
          part.rows = std::min(kInner, x.size(1) - part.row);
          fill(panel, part);
          panel.add(part);
        }
        panel.store(part_y, column, part.columns);
      }
    }
  });
  return y;
}

template <typename Engine>
Tensor product_nt(const Tensor& x, std::int64_t rows, const MakeWindow& w) {
  return product<Engine>(x, rows, [&w](Panel<Engine>& panel, const Window& part) {
    const WindowRows made = w({part.column, part.columns, part.row, part.rows}, panel.window(), kInner);
    Engine::pack_transposed(made, part.rows, part.columns, panel.packed());
  });
}

template <typename Engine>
Tensor product_nn(const Tensor& x, std::int64_t columns, const MakeWindow& w) {
  return product<Engine>(x, columns, [&w](Panel<Engine>& panel, const Window& part) {
    Engine::pack(w(part, panel.window(), kWidth), part.rows, part.columns, panel.packed());
  });
}

}  // namespace

bool takes_windows(const Tensor& x) {
  return may_loop(x) && x.scalar_type() == torch::kBFloat16 && x.size(0) > 1 && x.size(1) % 2 == 0 &&
         (needs_fp32_gemm(torch::kBFloat16, torch::kCPU) || simd::has_own_products());
}

Tensor tiled_gemm_nt(const Tensor& x, std::int64_t rows, const MakeWindow& w) {
  return needs_fp32_gemm(torch::kBFloat16, torch::kCPU) ? product_nt<Wide>(x, rows, w) : product_nt<Native>(x, rows, w);
}

Tensor tiled_gemm_nn(const Tensor& x, std::int64_t columns, const MakeWindow& w) {
  return needs_fp32_gemm(torch::kBFloat16, torch::kCPU) ? product_nn<Wide>(x, columns, w)
                                                        : product_nn<Native>(x, columns, w);
}

}  // namespace bezel::kernels
