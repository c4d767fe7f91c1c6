// Compiled once for each instruction set, with BEZEL_SIMD_PRODUCTS naming what it defines.
#include "bezel/kernels/simd/product.h"

#include <utility>

#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {

// A tile of c is a few rows of up to kVectors vectors: the sums stay in registers beside the factors. Unasked, GCC 12
// unrolls the loops over them too late and takes the sums through memory before and after.
#if defined(__AVX512BF16__)
constexpr std::int64_t kVectors = 4;
#else
constexpr std::int64_t kVectors = 2;
#endif
constexpr std::int64_t kRows = 4;

// kWidth vectors of kRows rows. Where these are few, several sums take turns, as one addition waits for the last.
template <std::int64_t kWidth, std::int64_t kTurns>
void tile(const Product& p, std::int64_t row, std::int64_t column) {
  Floats sums[kTurns][kRows][kWidth];
  float* c = p.c + row * p.ld_c + column;
  const auto at = [&](std::int64_t r, std::int64_t v) { return reinterpret_cast<Floats*>(c + r * p.ld_c + v * kWide); };
#pragma GCC unroll 4
  for (std::int64_t turn = 0; turn < kTurns; ++turn)
#pragma GCC unroll 4
    for (std::int64_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (std::int64_t v = 0; v < kWidth; ++v) sums[turn][r][v] = turn == 0 && p.add ? *at(r, v) : Floats{};
  const Bf16 *a = p.a + row * p.ld_a, *b = p.b + 2 * column;
  const auto add = [&](Floats(&to)[kRows][kWidth], std::int64_t i) {
    PairFactor right[kWidth];
#pragma GCC unroll 4
    for (std::int64_t v = 0; v < kWidth; ++v) right[v] = pair_factor(load<Words>(b + i * p.ld_b + 2 * v * kWide));
#pragma GCC unroll 4
    for (std::int64_t r = 0; r < kRows; ++r) {
      const PairFactor left = pair_factor(Words{} + load<std::uint32_t>(a + r * p.ld_a + i));
#pragma GCC unroll 4
      for (std::int64_t v = 0; v < kWidth; ++v) add_pair_products(to[r][v], left, right[v]);
    }
  };
  std::int64_t i = 0;
  if constexpr (kTurns > 1) {
    for (; i + 2 * kTurns <= p.inner; i += 2 * kTurns)
#pragma GCC unroll 4
      for (std::int64_t turn = 0; turn < kTurns; ++turn) add(sums[turn], i + 2 * turn);
  }
  for (; i < p.inner; i += 2) add(sums[0], i);
#pragma GCC unroll 4
  for (std::int64_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (std::int64_t v = 0; v < kWidth; ++v) {
      Floats sum = sums[0][r][v];
#pragma GCC unroll 4
      for (std::int64_t turn = 1; turn < kTurns; ++turn) sum += sums[turn][r][v];
      *at(r, v) = sum;
    }
}

template <std::int64_t kWidth>
void columns_from(const Product& p, std::int64_t column) {
  for (std::int64_t row = 0; row < p.rows; row += kRows) tile<kWidth, kVectors / kWidth>(p, row, column);
}

void product(const Product& p) {
  const std::int64_t wide = p.columns - p.columns % (kVectors * kWide);
  // Down the rows first: the columns of b stay in the first cache.
  for (std::int64_t column = 0; column < wide; column += kVectors * kWide) columns_from<kVectors>(p, column);
  switch ((p.columns - wide) / kWide) {
    case 1:
      return columns_from<1>(p, wide);
#if defined(__AVX512BF16__)
    case 2:
      return columns_from<2>(p, wide);
    case 3:
      return columns_from<3>(p, wide);
#endif
    default:
      return;
  }
}

void pack(const Pack& p) {
  for (std::int64_t row = 0; row < p.rows; row += 2) {
    const Bf16 *even = p.from + row * p.ld, *odd = even + p.ld;
    Bf16* to = p.to + row * p.width;
    for (std::int64_t i = 0; i < p.width; i += kWide) {
      store(to + 2 * i, pairs_of(load<HalfWords>(even + i), load<HalfWords>(odd + i)));
    }
  }
}

// Pairs [first, last) of a few columns.
void pack_pairs(const Pack& p, std::int64_t first, std::int64_t last) {
  for (std::int64_t column = 0; column < p.width; ++column)
    for (std::int64_t pair = first; pair < last; ++pair)
      std::memcpy(p.to + 2 * (pair * p.width + column), p.from + column * p.ld + 2 * pair, 2 * sizeof(Bf16));
}

#if defined(__AVX512F__)
// Swaps the off-diagonal blocks of kStep x kStep; over all powers of two, that is the transpose.
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
inline void transpose_pairs(const Bf16* from, std::int64_t ld, Bf16* to, std::int64_t width) {
  Words rows[kWide];
  for (std::int64_t i = 0; i < kWide; ++i) std::memcpy(&rows[i], from + i * ld, sizeof rows[i]);
  constexpr auto kAll = std::make_integer_sequence<std::uint32_t, kWide>{};
  swap_blocks<8>(rows, kAll);
  swap_blocks<4>(rows, kAll);
  swap_blocks<2>(rows, kAll);
  swap_blocks<1>(rows, kAll);
  for (std::int64_t i = 0; i < kWide; ++i) std::memcpy(to + 2 * i * width, &rows[i], sizeof rows[i]);
}

void pack_transposed(const Pack& p) {
  const std::int64_t pairs = p.rows / 2, wide = pairs - pairs % kWide;
  for (std::int64_t pair = 0; pair < wide; pair += kWide)
    for (std::int64_t column = 0; column < p.width; column += kWide)
      transpose_pairs(p.from + column * p.ld + 2 * pair, p.ld, p.to + 2 * (pair * p.width + column), p.width);
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
