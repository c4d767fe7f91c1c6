// Compiled once for each instruction set, with BEZEL_SIMD_PRODUCTS naming what it defines.
#include "bezel/kernels/simd/product.h"

#include <utility>

#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {

// A tile of c is kRows rows of kVectors vectors: the sums stay in registers beside the factors.
#if defined(__AVX512BF16__)
constexpr std::int64_t kVectors = 4;
#else
constexpr std::int64_t kVectors = 2;
#endif
constexpr std::int64_t kRows = 4;

template <std::int64_t kWidth>
void tile(const Product& p, std::int64_t row, std::int64_t column) {
  Floats sums[kRows][kWidth];
  float* c = p.c + row * p.ld_c + column;
  const auto at = [&](std::int64_t r, std::int64_t v) { return reinterpret_cast<Floats*>(c + r * p.ld_c + v * kWide); };
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kWidth; ++v) sums[r][v] = p.add ? *at(r, v) : Floats{};
  const Bf16 *a = p.a + row * p.ld_a, *b = p.b + 2 * column;
  for (std::int64_t i = 0; i < p.inner; i += 2) {
    PairFactor right[kWidth];
    for (std::int64_t v = 0; v < kWidth; ++v) right[v] = pair_factor(load<Words>(b + i * p.ld_b + 2 * v * kWide));
    for (std::int64_t r = 0; r < kRows; ++r) {
      const PairFactor left = pair_factor(Words{} + load<std::uint32_t>(a + r * p.ld_a + i));
      for (std::int64_t v = 0; v < kWidth; ++v) add_pair_products(sums[r][v], left, right[v]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kWidth; ++v) *at(r, v) = sums[r][v];
}

void product(const Product& p) {
  const std::int64_t wide = p.columns - p.columns % (kVectors * kWide);
  // Down the rows first: the columns of b stay in the first cache.
  for (std::int64_t column = 0; column < wide; column += kVectors * kWide)
    for (std::int64_t row = 0; row < p.rows; row += kRows) tile<kVectors>(p, row, column);
  for (std::int64_t column = wide; column < p.columns; column += kWide)
    for (std::int64_t row = 0; row < p.rows; row += kRows) tile<1>(p, row, column);
}

void pack(const Pack& p) {
  for (std::int64_t row = 0; row < p.rows; row += 2) {
    const Bf16 *even = p.from + row * p.ld, *odd = even + p.ld;
    Bf16* to = p.to + row * kPackedWidth;
#pragma omp simd
    for (std::int64_t i = 0; i < kPackedWidth; ++i) {
      to[2 * i] = even[i];
      to[2 * i + 1] = odd[i];
    }
  }
}

// Pairs [first, last) of a few columns.
void pack_pairs(const Pack& p, std::int64_t first, std::int64_t last) {
  for (std::int64_t column = 0; column < kPackedWidth; ++column)
    for (std::int64_t pair = first; pair < last; ++pair)
      std::memcpy(p.to + 2 * (pair * kPackedWidth + column), p.from + column * p.ld + 2 * pair, 2 * sizeof(Bf16));
}

#if defined(__AVX512F__)
// Swaps the blocks of kStep x kStep that lie off the diagonal; over all powers of two, that is the transpose.
template <std::uint32_t kStep, std::uint32_t... kLane>
inline void swap_blocks(Words (&rows)[kWide], std::integer_sequence<std::uint32_t, kLane...>) {
  const Words first = {((kLane & kStep) == 0 ? kLane : kWide + kLane - kStep)...};
  const Words second = {((kLane & kStep) == 0 ? kLane + kStep : kWide + kLane)...};
  for (std::uint32_t i = 0; i < kWide; ++i) {
    if ((i & kStep) != 0) continue;
    const Words a = rows[i], b = rows[i + kStep];
    rows[i] = __builtin_shuffle(a, b, first);
    rows[i + kStep] = __builtin_shuffle(a, b, second);
  }
}

// 16 pairs of 16 columns.
inline void transpose_pairs(const Bf16* from, std::int64_t ld, Bf16* to) {
  Words rows[kWide];
  for (std::int64_t i = 0; i < kWide; ++i) std::memcpy(&rows[i], from + i * ld, sizeof rows[i]);
  constexpr auto kAll = std::make_integer_sequence<std::uint32_t, kWide>{};
  swap_blocks<8>(rows, kAll);
  swap_blocks<4>(rows, kAll);
  swap_blocks<2>(rows, kAll);
  swap_blocks<1>(rows, kAll);
  for (std::int64_t i = 0; i < kWide; ++i) std::memcpy(to + 2 * i * kPackedWidth, &rows[i], sizeof rows[i]);
}

void pack_transposed(const Pack& p) {
  const std::int64_t pairs = p.rows / 2, wide = pairs - pairs % kWide;
  for (std::int64_t pair = 0; pair < wide; pair += kWide)
    for (std::int64_t column = 0; column < kPackedWidth; column += kWide)
      transpose_pairs(p.from + column * p.ld + 2 * pair, p.ld, p.to + 2 * (pair * kPackedWidth + column));
  pack_pairs(p, wide, pairs);
}
#else
void pack_transposed(const Pack& p) { pack_pairs(p, 0, p.rows / 2); }
#endif

void round_sums(const Round& r) {
  for (std::int64_t row = 0; row < r.rows; ++row) {
    const float* from = r.from + row * r.ld_from;
    Bf16* to = r.to + row * r.ld_to;
#pragma omp simd
    for (std::int64_t i = 0; i < r.columns; ++i) to[i] = narrow(from[i]);
  }
}

constexpr Products kProducts{product, pack, pack_transposed, round_sums};

}  // namespace

const Products& BEZEL_SIMD_PRODUCTS() { return kProducts; }

}  // namespace bezel::kernels::simd
