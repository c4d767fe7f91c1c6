// Compiled once for each instruction set, with BEZEL_SIMD_FP32_GEMM_KERNELS naming what it defines.
#include "bezel/kernels/simd/fp32_gemm.h"

#include "bezel/kernels/simd/lanes.h"

namespace bezel::kernels::simd {
namespace {

// A tile of c is kRows rows of two vectors: 12 sums, two vectors of b and one element of a fill the registers of AVX2.
constexpr std::int64_t kRows = 6, kVectors = 2, kColumns = kVectors * kLanes;

using Floats = float __attribute__((vector_size(4 * kLanes), aligned(4)));

// b is stored in blocks of kColumns columns, row by row.
template <std::int64_t kCount>
void tile(const Fp32Gemm& p, std::int64_t row, std::int64_t column) {
  Floats sums[kCount][kVectors];
  float* c = p.c + row * kFp32Width + column;
  const auto at = [&](std::int64_t r, std::int64_t v) {
    return reinterpret_cast<Floats*>(c + r * kFp32Width + v * kLanes);
  };
#pragma GCC unroll 8
  for (std::int64_t r = 0; r < kCount; ++r)
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) sums[r][v] = p.add ? *at(r, v) : Floats{};
  const float *a = p.a + row * p.ld_a, *b = p.b + column * p.inner;
  for (std::int64_t i = 0; i < p.inner; ++i, b += kColumns) {
    Floats right[kVectors];
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) right[v] = *reinterpret_cast<const Floats*>(b + v * kLanes);
#pragma GCC unroll 8
    for (std::int64_t r = 0; r < kCount; ++r)
#pragma GCC unroll 8
      for (std::int64_t v = 0; v < kVectors; ++v) sums[r][v] += a[r * p.ld_a + i] * right[v];
  }
#pragma GCC unroll 8
  for (std::int64_t r = 0; r < kCount; ++r)
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) *at(r, v) = sums[r][v];
}

void product(const Fp32Gemm& p) {
  // Down the rows first: the columns of b stay in the first cache.
  for (std::int64_t column = 0; column < p.columns; column += kColumns) {
    std::int64_t row = 0;
    for (; row + kRows <= p.rows; row += kRows) tile<kRows>(p, row, column);
    for (; row + 2 <= p.rows; row += 2) tile<2>(p, row, column);
    for (; row < p.rows; ++row) tile<1>(p, row, column);
  }
}

void pack(const Fp32Pack& p) {
  for (std::int64_t column = 0; column < p.columns; column += kColumns)
    for (std::int64_t row = 0; row < p.rows; ++row) {
      const Bf16* from = p.from + row * p.ld + column;
      float* to = p.to + column * p.rows + row * kColumns;
#pragma omp simd
      for (std::int64_t i = 0; i < kColumns; ++i) to[i] = simd::widen(from[i]);
    }
}

// A few rows at a time, so that what is written stays in one cache line for as long as it is filled.
void pack_transposed(const Fp32Pack& p) {
  constexpr std::int64_t kStep = 16;
  for (std::int64_t column = 0; column < p.columns; column += kColumns)
    for (std::int64_t row = 0; row < p.rows; row += kStep) {
      const std::int64_t count = p.rows - row < kStep ? p.rows - row : kStep;
      float* to = p.to + column * p.rows + row * kColumns;
      for (std::int64_t i = 0; i < kColumns; ++i) {
        const Bf16* from = p.from + (column + i) * p.ld + row;
        for (std::int64_t j = 0; j < count; ++j) to[j * kColumns + i] = simd::widen(from[j]);
      }
    }
}

void widen_all(const Bf16* from, float* to, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = simd::widen(from[i]);
}

constexpr Fp32GemmKernels kProducts{product, pack, pack_transposed, widen_all};

}  // namespace

const Fp32GemmKernels& BEZEL_SIMD_FP32_GEMM_KERNELS() { return kProducts; }

}  // namespace bezel::kernels::simd
