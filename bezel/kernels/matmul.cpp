#include "bezel/kernels/matmul.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"
#include "bezel/kernels/skinny_gemm.h"

namespace bezel::kernels {
namespace {

// Large enough for products near full speed, small beside what a step keeps.
constexpr std::int64_t kTileBytes = 8 << 20;

bool has_fast_bf16() {
#if defined(__x86_64__)
  return simd::has_bf16_products();
#else
  return at::get_cpu_capability() != "DEFAULT";
#endif
}

std::int64_t rows_per_tile(const Tiles& w, torch::ScalarType dtype) {
  const auto row_bytes = static_cast<std::int64_t>(c10::elementSize(dtype)) * std::max<std::int64_t>(w.columns, 1);
  return std::clamp<std::int64_t>(kTileBytes / row_bytes, 1, w.rows);
}

// In the dtype of x first: where products are widened, adapters are rounded as they are elsewhere.
Tiles tiles_of(const torch::Tensor& w, const torch::Tensor& x) {
  return {w.size(0),
          w.size(1),
          [&w, narrow = x.scalar_type()](std::int64_t begin, std::int64_t count, torch::ScalarType dtype) {
            return w.narrow(0, begin, count).to(narrow).to(dtype);
          },
          {}};
}

// Likewise, window by window: packed for tile units, or widened, in the caches.
Tiles windows_of(const torch::Tensor& w) {
  const torch::Tensor narrow = w.to(torch::kBFloat16).contiguous();
  return {w.size(0), w.size(1), {}, [narrow](const Window& window, simd::Bf16* scratch, std::int64_t ld) {
            const std::int64_t columns = narrow.size(1);
            const simd::Bf16* from = simd::bf16(narrow) + window.row * columns + window.column;
            // Whole panels are read in place; the bytes after the last one may not be mapped.
            if (window.rows % kWindowStep == 0 && window.columns % kWindowStep == 0) return WindowRows{from, columns};
            for (std::int64_t row = 0; row < window.rows; ++row)
              std::copy_n(from + row * columns, window.columns, scratch + row * ld);
            return WindowRows{scratch, ld};
          }};
}

// Dense matrices go by windows where quantized ones do, and LibTorch's products would not give the same bits.
bool goes_by_windows(const torch::Tensor& x) {
  return takes_windows(x) && (needs_fp32_gemm(x.scalar_type(), x.device()) || simd::tile_products() != nullptr);
}

// Matrices that make no windows, by those of some rows that are made as a whole: the bits of the whole matrix.
torch::Tensor windows_of_parts_nt(const torch::Tensor& x, const Tiles& w) {
  torch::Tensor y = at::empty({x.size(0), w.rows}, x.options());
  const std::int64_t step = rows_per_tile(w, x.scalar_type());
  for (std::int64_t begin = 0; begin < w.rows; begin += step) {
    const std::int64_t rows = std::min(step, w.rows - begin);
    const Tiles part = windows_of(w.make(begin, rows, x.scalar_type()));
    y.narrow(1, begin, rows).copy_(tiled_gemm_nt(x, rows, part.make_window));
  }
  return y;
}

torch::Tensor windows_of_parts_nn(const torch::Tensor& x, const Tiles& w) {
  PartialSums sums(x.size(0), w.columns);
  const std::int64_t most = rows_per_tile(w, x.scalar_type());
  const std::int64_t step = std::max(most - most % PartialSums::kStep, PartialSums::kStep);
  for (std::int64_t begin = 0; begin < w.rows; begin += step) {
    const std::int64_t rows = std::min(step, w.rows - begin);
    sums.add(x.narrow(1, begin, rows), windows_of(w.make(begin, rows, x.scalar_type())).make_window);
  }
  return sums.rounded();
}

Tiles parts_of(const torch::Tensor& w, const torch::Tensor& x) {
  return goes_by_windows(x) ? windows_of(w) : tiles_of(w, x);
}

// What the products of an input are computed in.
torch::ScalarType compute_dtype(const torch::Tensor& x) {
  return needs_fp32_gemm(x.scalar_type(), x.device()) ? torch::kFloat : x.scalar_type();
}

bool direct(const torch::Tensor& x, const torch::Tensor& w) {
  return x.scalar_type() == w.scalar_type() && !needs_fp32_gemm(x.scalar_type(), x.device()) && !goes_by_windows(x);
}

// a · b in float32, on a device. CUDA has a kernel that rounds nothing before.
torch::Tensor product_in_float32(const torch::Tensor& a, const torch::Tensor& b) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
  if (a.scalar_type() == torch::kBFloat16 && (a.is_cuda() || a.is_privateuseone())) return at::mm(a, b, torch::kFloat);
#endif
  return at::mm(a, b).to(torch::kFloat);
}

}  // namespace

bool needs_fp32_gemm(torch::ScalarType dtype, torch::Device device) {
  if (dtype != torch::kBFloat16 && dtype != torch::kHalf) return false;
  if (!device.is_cpu()) return false;
  static const bool fast_bf16 = has_fast_bf16();
  return dtype == torch::kHalf || !fast_bf16;
}

torch::Tensor matmul_nt(const torch::Tensor& x, const torch::Tensor& w) {
  if (!may_loop(x)) return at::mm(x, w.to(x.scalar_type()).t());
  return direct(x, w) ? at::mm(x, w.t()) : matmul_nt(x, parts_of(w, x));
}

torch::Tensor matmul_nt(const torch::Tensor& x, const Tiles& w) {
  TORCH_CHECK(x.size(1) == w.columns, x.sizes(), " times the transpose of [", w.rows, ", ", w.columns, "]");
  if (w.make_window) return tiled_gemm_nt(x, w.rows, w.make_window);
  if (simd::tile_products() != nullptr && goes_by_windows(x)) return windows_of_parts_nt(x, w);
  const auto compute = compute_dtype(x);
  const torch::Tensor wide = x.to(compute);
  torch::Tensor y = at::empty({x.size(0), w.rows}, x.options());
  const std::int64_t step = rows_per_tile(w, compute);
  for (std::int64_t begin = 0; begin < w.rows; begin += step) {
    const std::int64_t rows = std::min(step, w.rows - begin);
    y.narrow(1, begin, rows).copy_(at::mm(wide, w.make(begin, rows, compute).t()));
  }
  return y;
}

torch::Tensor matmul_nn(const torch::Tensor& x, const torch::Tensor& w) {
  if (!may_loop(x)) return at::mm(x, w.to(x.scalar_type()));
  return direct(x, w) ? at::mm(x, w) : matmul_nn(x, parts_of(w, x));
}

torch::Tensor matmul_nn(const torch::Tensor& x, const Tiles& w) {
  TORCH_CHECK(x.size(1) == w.rows, x.sizes(), " times [", w.rows, ", ", w.columns, "]");
  if (w.make_window) return tiled_gemm_nn(x, w.columns, w.make_window);
  if (simd::tile_products() != nullptr && goes_by_windows(x)) return windows_of_parts_nn(x, w);
  const auto compute = compute_dtype(x);
  // Partial sums of several tiles stay in float32, whatever the products are computed in.
  const std::int64_t step = rows_per_tile(w, compute);
  const auto sums = step < w.rows ? torch::kFloat : compute;
  torch::Tensor y = at::zeros({x.size(0), w.columns}, x.options().dtype(sums));
  for (std::int64_t begin = 0; begin < w.rows; begin += step) {
    const std::int64_t rows = std::min(step, w.rows - begin);
    const torch::Tensor part = x.narrow(1, begin, rows).to(compute), tile = w.make(begin, rows, compute);
    if (sums == compute)
      y.addmm_(part, tile);
    else
      y.add_(at::mm(part, tile));
  }
  return y.to(x.scalar_type());
}

torch::Tensor matmul_tn(const torch::Tensor& x, const torch::Tensor& y) {
  // The narrower dtype: what was rounded to it already loses nothing, and float32 factors of an adapter's size may be.
  const auto narrow = x.scalar_type() == torch::kFloat ? y.scalar_type() : x.scalar_type();
  if (!may_loop(x)) return product_in_float32(x.to(narrow).t(), y.to(narrow));
  if (const torch::Tensor a = x.to(narrow), b = y.to(narrow); has_skinny_gemm_tn(a, b)) return skinny_gemm_tn(a, b);
  const auto compute = needs_fp32_gemm(narrow, x.device()) ? torch::kFloat : narrow;
  return at::mm(x.to(compute).t(), y.to(compute)).to(torch::kFloat);
}

}  // namespace bezel::kernels
