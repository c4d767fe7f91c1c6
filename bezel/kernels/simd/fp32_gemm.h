#pragma once

#include <cstdint>

#include "bezel/kernels/simd/bf16.h"

// Products of bfloat16 matrices for processors without bfloat16 instructions: both factors are widened to float32, the
// right one where it is packed, so that no wide copy of a matrix exists.

namespace bezel::kernels::simd {

/// Columns of a packed right factor.
constexpr std::int64_t kFp32Width = 64;

/// c = a · b, or c += a · b with `add`, on one thread.
struct Fp32Gemm {
  const float* a;  ///< [rows, inner]
  const float* b;  ///< packed
  float* c;        ///< [rows, kFp32Width]
  std::int64_t rows;
  std::int64_t columns;  ///< at most kFp32Width; those behind them may be overwritten
  std::int64_t inner;
  std::int64_t ld_a;  ///< elements from one row of a to the next
  bool add = false;
};

/// Columns of B, to [rows * kFp32Width] in an order that its product knows. `from` has kFp32Width columns
/// to read, whatever those behind `columns` hold.
struct Fp32Pack {
  const Bf16* from;
  std::int64_t ld;  ///< elements from one row of `from` to the next
  std::int64_t rows;
  std::int64_t columns;
  float* to;
};

/// For one instruction set, from fp32_gemm.cpp.
struct Fp32GemmKernels {
  void (*product)(const Fp32Gemm&);
  /// Rows of `from`: rows of the factor.
  void (*pack)(const Fp32Pack&);
  /// Rows of `from`: the factor's columns.
  void (*pack_transposed)(const Fp32Pack&);
  void (*widen)(const Bf16* from, float* to, std::int64_t count);
};

const Fp32GemmKernels& baseline_fp32_gemm_kernels();
const Fp32GemmKernels& avx2_fp32_gemm_kernels();
const Fp32GemmKernels& avx512_fp32_gemm_kernels();

}  // namespace bezel::kernels::simd
