// Compiled once for each instruction set, with BEZEL_SIMD_PRODUCT naming what it defines.
#include "bezel/kernels/simd/product.h"

#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace bezel::kernels::simd {
namespace {

// A tile of c is kRows rows of kVectors vectors: the sums stay in registers beside the factors.
#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
#else
constexpr std::int64_t kLanes = 8;
#endif
#if defined(__AVX512BF16__)
constexpr std::int64_t kVectors = 4;
#else
constexpr std::int64_t kVectors = 2;
#endif
constexpr std::int64_t kRows = 4;

using Floats = float __attribute__((vector_size(4 * kLanes), aligned(4)));
using Pairs = std::uint32_t __attribute__((vector_size(4 * kLanes), aligned(4)));

// Each lane: sum + first · first + second · second.
inline void add_products(Floats& sum, const Pairs& a, const Pairs& b) {
#if defined(__AVX512BF16__)
  sum = reinterpret_cast<Floats>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
#else
  sum += reinterpret_cast<Floats>(a << 16) * reinterpret_cast<Floats>(b << 16);
  sum += reinterpret_cast<Floats>(a & 0xffff0000u) * reinterpret_cast<Floats>(b & 0xffff0000u);
#endif
}

template <std::int64_t kWidth>
void tile(const Product& p, std::int64_t row, std::int64_t column) {
  Floats sums[kRows][kWidth];
  float* c = p.c + row * p.ld_c + column;
  const auto at = [&](std::int64_t r, std::int64_t v) {
    return reinterpret_cast<Floats*>(c + r * p.ld_c + v * kLanes);
  };
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kWidth; ++v) sums[r][v] = p.add ? *at(r, v) : Floats{};
  const Bf16 *a = p.a + row * p.ld_a, *b = p.b + 2 * column;
  for (std::int64_t i = 0; i < p.inner; i += 2) {
    Pairs right[kWidth];
    for (std::int64_t v = 0; v < kWidth; ++v)
      right[v] = *reinterpret_cast<const Pairs*>(b + i * p.ld_b + 2 * v * kLanes);
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::uint32_t pair;
      std::memcpy(&pair, a + r * p.ld_a + i, sizeof pair);
      const Pairs left = Pairs{} + pair;
      for (std::int64_t v = 0; v < kWidth; ++v) add_products(sums[r][v], left, right[v]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kWidth; ++v) *at(r, v) = sums[r][v];
}

}  // namespace

void BEZEL_SIMD_PRODUCT(const Product& p) {
  const std::int64_t wide = p.columns - p.columns % (kVectors * kLanes);
  // Down the rows first: the columns of b stay in the first cache.
  for (std::int64_t column = 0; column < wide; column += kVectors * kLanes)
    for (std::int64_t row = 0; row < p.rows; row += kRows) tile<kVectors>(p, row, column);
  for (std::int64_t column = wide; column < p.columns; column += kLanes)
    for (std::int64_t row = 0; row < p.rows; row += kRows) tile<1>(p, row, column);
}

}  // namespace bezel::kernels::simd
