#include "bezel/kernels/simd/dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include <ATen/Version.h>
#include <ATen/native/CPUBlas.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels::simd {
namespace {

#if defined(__x86_64__)
// ONEDNN_MAX_CPU_ISA, by which LibTorch's products are held back, holds for ours too.
bool may_use_bf16() {
  const char* isa = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string_view limit = isa == nullptr ? "" : isa;
  return limit.empty() || limit == "ALL" || limit == "DEFAULT" || limit.find("BF16") != limit.npos ||
         limit.find("AMX") != limit.npos;
}

template <typename Table>
const Table& choose(const Table& baseline, const Table& avx2, const Table& avx512) {
  const std::string capability = at::get_cpu_capability();
  return capability == "AVX512" ? avx512 : (capability == "AVX2" ? avx2 : baseline);
}

template <typename Table>
const Table& choose(const Table& baseline, const Table& avx2, const Table& avx512, const Table& avx512bf16) {
  return choose(baseline, avx2, __builtin_cpu_supports("avx512bf16") && may_use_bf16() ? avx512bf16 : avx512);
}
#endif

// Chooses one of the tables on the first call. Only x86-64 has tables beyond the baseline.
template <auto kBaseline, auto... kWider>
const auto& chosen() {
#if defined(__x86_64__)
  static const auto& table = choose(kBaseline(), kWider()...);
#else
  static const auto& table = kBaseline();
#endif
  return table;
}

}  // namespace

const RowKernels& row_kernels() { return chosen<baseline_row_kernels, avx2_row_kernels, avx512_row_kernels>(); }

const AttentionLoops& attention_loops() {
  return chosen<baseline_attention_loops, avx2_attention_loops, avx512_attention_loops, avx512bf16_attention_loops>();
}

const WeightKernels& weight_kernels() {
  return chosen<baseline_weight_kernels, avx2_weight_kernels, avx512_weight_kernels, avx512bf16_weight_kernels>();
}

const LowRankLoops& low_rank_loops() {
  return chosen<baseline_low_rank_loops, avx2_low_rank_loops, avx512_low_rank_loops, avx512bf16_low_rank_loops>();
}

const Products& products() { return chosen<baseline_products, avx2_products, avx512_products, avx512bf16_products>(); }

const Unpackers& unpackers() { return chosen<baseline_unpackers, avx2_unpackers, avx512_unpackers>(); }

const Fp32GemmKernels& fp32_gemm_kernels() {
  return chosen<baseline_fp32_gemm_kernels, avx2_fp32_gemm_kernels, avx512_fp32_gemm_kernels>();
}

bool has_bf16_products() {
#if defined(__x86_64__)
  return &products() == &avx512bf16_products();
#else
  return false;
#endif
}

bool has_tile_units() {
  static const bool found = at::native::cpublas::could_pack(torch::kBFloat16);
  return found;
}

bool has_own_products() { return tile_products() != nullptr || (has_bf16_products() && !has_tile_units()); }

bool takes(std::initializer_list<torch::Tensor> tensors) {
  return std::ranges::all_of(tensors, [](const torch::Tensor& tensor) {
    return !tensor.defined() ||
           (may_loop(tensor) && tensor.is_contiguous() && tensor.scalar_type() == torch::kBFloat16);
  });
}

}  // namespace bezel::kernels::simd
