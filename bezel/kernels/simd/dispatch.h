#pragma once

#include <cstdint>
#include <initializer_list>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "bezel/kernels/simd/attention.h"
#include "bezel/kernels/simd/fp32_gemm.h"
#include "bezel/kernels/simd/low_rank.h"
#include "bezel/kernels/simd/product.h"
#include "bezel/kernels/simd/row_kernels.h"
#include "bezel/kernels/simd/unpack.h"
#include "bezel/kernels/simd/weight_kernels.h"

namespace bezel::kernels::simd {

/// The loops for what this machine can do, or for less where ATEN_CPU_CAPABILITY says so.
const RowKernels& row_kernels();
const Unpackers& unpackers();
const AttentionLoops& attention_loops();
const WeightKernels& weight_kernels();
const LowRankLoops& low_rank_loops();
const Products& products();
const Fp32GemmKernels& fp32_gemm_kernels();

/// Whether `products` uses the processor's own products of bfloat16.
bool has_bf16_products();

/// Whether LibTorch has products on tile units (AMX) here, which are faster than any of `products`. Ours on them are in
/// tile_units.h.
bool has_tile_units();

/// Whether products of our own pay off here: on tile units, or by `products` where the processor has products of
/// bfloat16 and LibTorch has no tile units to use.
bool has_own_products();

/// Whether the loops take these tensors: bfloat16, contiguous, on the CPU; undefined ones are skipped. float32 runs
/// in ATen's operators, whose rounding is that of the reference to the last bit, where a clamp may hang on it.
bool takes(std::initializer_list<torch::Tensor> tensors);

/// The elements of a bfloat16 tensor as the loops see them; null for an undefined one.
inline Bf16* bf16(const torch::Tensor& tensor) {
  return tensor.defined() ? static_cast<Bf16*>(tensor.data_ptr()) : nullptr;
}

/// The elements of a tensor of type T; null for an undefined one.
template <typename T>
T* data(const torch::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

/// Shares `rows` of `columns` elements out between threads.
template <typename Arguments>
void for_rows(void (*loop)(const Arguments&, std::int64_t, std::int64_t), const Arguments& arguments, std::int64_t rows,
              std::int64_t columns) {
  constexpr std::int64_t kGrainElements = 16384;
  const std::int64_t grain = columns >= kGrainElements ? 1 : kGrainElements / (columns > 0 ? columns : 1);
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) { loop(arguments, begin, end); });
}

}  // namespace bezel::kernels::simd
