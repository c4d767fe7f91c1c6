#include "bezel/kernels/simd/functions.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include <ATen/Version.h>
#include <ATen/native/CPUBlas.h>

namespace bezel::kernels::simd {
namespace {

#if defined(__x86_64__)
template <typename Table>
const Table& choose(const Table& baseline, const Table& avx2, const Table& avx512) {
  const std::string capability = at::get_cpu_capability();
  return capability == "AVX512" ? avx512 : (capability == "AVX2" ? avx2 : baseline);
}

const Functions& chosen_functions() { return choose(baseline_functions(), avx2_functions(), avx512_functions()); }
// ONEDNN_MAX_CPU_ISA, by which LibTorch's products are held back, holds for ours too.
bool may_use_bf16() {
  const char* isa = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string_view limit = isa == nullptr ? "" : isa;
  return limit.empty() || limit == "ALL" || limit == "DEFAULT" || limit.find("BF16") != limit.npos ||
         limit.find("AMX") != limit.npos;
}

// The table for AVX-512, or that with products of bfloat16 where there are such.
template <typename Table>
const Table& with_bf16(const Table& avx512, const Table& avx512bf16) {
  return __builtin_cpu_supports("avx512bf16") && may_use_bf16() ? avx512bf16 : avx512;
}

const AttentionLoops& chosen_attention_loops() {
  return choose(baseline_attention_loops(), avx2_attention_loops(),
                with_bf16(avx512_attention_loops(), avx512bf16_attention_loops()));
}
const Frozen& chosen_frozen() {
  return choose(baseline_frozen(), avx2_frozen(), with_bf16(avx512_frozen(), avx512bf16_frozen()));
}
const LowRankLoops& chosen_low_rank_loops() {
  return choose(baseline_low_rank_loops(), avx2_low_rank_loops(),
                with_bf16(avx512_low_rank_loops(), avx512bf16_low_rank_loops()));
}
const Products& chosen_products() {
  return choose(baseline_products(), avx2_products(), with_bf16(avx512_products(), avx512bf16_products()));
}
const Unpackers& chosen_unpackers() { return choose(baseline_unpackers(), avx2_unpackers(), avx512_unpackers()); }
const WideProducts& chosen_wide_products() {
  return choose(baseline_wide_products(), avx2_wide_products(), avx512_wide_products());
}
#else
const Functions& chosen_functions() { return baseline_functions(); }
const AttentionLoops& chosen_attention_loops() { return baseline_attention_loops(); }
const Frozen& chosen_frozen() { return baseline_frozen(); }
const LowRankLoops& chosen_low_rank_loops() { return baseline_low_rank_loops(); }
const Products& chosen_products() { return baseline_products(); }
const Unpackers& chosen_unpackers() { return baseline_unpackers(); }
const WideProducts& chosen_wide_products() { return baseline_wide_products(); }
#endif

}  // namespace

const Functions& functions() {
  static const Functions& chosen = chosen_functions();
  return chosen;
}

const AttentionLoops& attention_loops() {
  static const AttentionLoops& chosen = chosen_attention_loops();
  return chosen;
}

const Frozen& frozen() {
  static const Frozen& chosen = chosen_frozen();
  return chosen;
}

const LowRankLoops& low_rank_loops() {
  static const LowRankLoops& chosen = chosen_low_rank_loops();
  return chosen;
}

const Unpackers& unpackers() {
  static const Unpackers& chosen = chosen_unpackers();
  return chosen;
}

const Products& products() {
  static const Products& chosen = chosen_products();
  return chosen;
}

const WideProducts& wide_products() {
  static const WideProducts& chosen = chosen_wide_products();
  return chosen;
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

bool has_own_products() { return has_bf16_products() && !has_tile_units(); }

bool takes(std::initializer_list<torch::Tensor> tensors) {
  return std::ranges::all_of(tensors, [](const torch::Tensor& tensor) {
    return !tensor.defined() || (tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == torch::kBFloat16);
  });
}

}  // namespace bezel::kernels::simd
