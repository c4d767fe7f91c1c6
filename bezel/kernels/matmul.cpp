#include "bezel/kernels/matmul.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <ATen/ATen.h>
#include <ATen/Version.h>

namespace bezel::kernels {
namespace {

// 8 MiB of float32: large enough for full sgemm speed, small enough to stay near the cache.
constexpr std::int64_t kTileElements = 2 << 20;

bool has_fast_bf16() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512bf16")) return false;
#endif
  if (at::get_cpu_capability() == "AVX2" || at::get_cpu_capability() == "DEFAULT") return false;
  const char* isa = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string_view limit = isa == nullptr ? "" : isa;
  return limit.empty() || limit == "ALL" || limit == "DEFAULT" || limit.find("BF16") != limit.npos ||
         limit.find("AMX") != limit.npos;
}

std::int64_t rows_per_tile(const torch::Tensor& w) {
  return std::clamp<std::int64_t>(kTileElements / std::max<std::int64_t>(w.size(1), 1), 1, w.size(0));
}

bool direct(const torch::Tensor& x, const torch::Tensor& w) {
  return x.scalar_type() == w.scalar_type() && !widens(x.scalar_type(), x.device());
}

}  // namespace

bool widens(torch::ScalarType dtype, torch::Device device) {
  if (dtype != torch::kBFloat16 && dtype != torch::kHalf) return false;
  if (!device.is_cpu()) return false;
  static const bool fast_bf16 = has_fast_bf16();
  return dtype == torch::kHalf || !fast_bf16;
}

torch::Tensor matmul_nt(const torch::Tensor& x, const torch::Tensor& w) {
  if (direct(x, w)) return at::mm(x, w.t());
  const auto compute = widens(x.scalar_type(), x.device()) ? torch::kFloat : x.scalar_type();
  const torch::Tensor wide = x.to(compute);
  torch::Tensor y = at::empty({x.size(0), w.size(0)}, x.options());
  const std::int64_t step = rows_per_tile(w);
  for (std::int64_t begin = 0; begin < w.size(0); begin += step) {
    const std::int64_t rows = std::min(step, w.size(0) - begin);
    y.narrow(1, begin, rows).copy_(at::mm(wide, w.narrow(0, begin, rows).to(compute).t()));
  }
  return y;
}

torch::Tensor matmul_nn(const torch::Tensor& x, const torch::Tensor& w) {
  if (direct(x, w)) return at::mm(x, w);
  const auto compute = widens(x.scalar_type(), x.device()) ? torch::kFloat : x.scalar_type();
  torch::Tensor y = at::zeros({x.size(0), w.size(1)}, x.options().dtype(compute));
  const std::int64_t step = rows_per_tile(w);
  for (std::int64_t begin = 0; begin < w.size(0); begin += step) {
    const std::int64_t rows = std::min(step, w.size(0) - begin);
    y.addmm_(x.narrow(1, begin, rows).to(compute), w.narrow(0, begin, rows).to(compute));
  }
  return y.to(x.scalar_type());
}

}  // namespace bezel::kernels
