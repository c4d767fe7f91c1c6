// Compiled once for each instruction set, with BEZEL_SIMD_LOW_RANK_LOOPS naming what it defines.
#include "bezel/kernels/simd/low_rank.h"

#include <cstring>

#include "bezel/kernels/simd/vectors.h"

namespace bezel::kernels::simd {
namespace {

// Sums of a tile of y stay in registers: kRows rows of kVectors vectors, beside a pair of rows of b.
#if defined(__AVX512F__)
constexpr std::int64_t kRows = 4, kVectors = 4;
#else
constexpr std::int64_t kRows = 2, kVectors = 2;
#endif
constexpr std::int64_t kColumns = kVectors * kWide;
static_assert(kPackedWidth % kColumns == 0 && kWide % 8 == 0);

// The first element of a tile, and elements (of bits: bytes) from one of its rows to the next.
struct Place {
  Bf16* y;
  const Bf16* gate;
  std::uint8_t* bits;
  const Bf16* h;
  const Bf16* b;  // [r / 2, kPackedWidth, 2]
  std::int64_t ld_y, ld_bits;

  Place at(std::int64_t row, std::int64_t column, std::int64_t rank) const {
    return {y + row * ld_y + column,
            gate == nullptr ? nullptr : gate + row * ld_y + column,
            bits == nullptr ? nullptr : bits + row * ld_bits + column / 8,
            h == nullptr ? nullptr : h + row * rank,
            b == nullptr ? nullptr : b + 2 * column,
            ld_y,
            ld_bits};
  }
};

// Inlined and unrolled: else the sums would go through memory.
template <std::int64_t kCount>
[[gnu::always_inline]] inline void add_products(const LowRank& a, const Place& at, Floats (&sums)[kCount][kVectors]) {
  for (std::int64_t j = 0; j < a.rank; j += 2) {
    PairFactor right[kVectors];
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v)
      right[v] = pair_factor(load<Words>(at.b + j * kPackedWidth + 2 * v * kWide));
#pragma GCC unroll 8
    for (std::int64_t m = 0; m < kCount; ++m) {
      const PairFactor left = pair_factor(Words{} + load<std::uint32_t>(at.h + m * a.rank + j));
#pragma GCC unroll 8
      for (std::int64_t v = 0; v < kVectors; ++v) add_pair_products(sums[m][v], left, right[v]);
    }
  }
}

// The epilogue of one vector. Bounds and bits are those of the rounded value.
template <Epilogue kEpilogue>
inline void finish(Floats sum, const LowRank& a, Bf16* y, const Bf16* gate, std::uint8_t* bits) {
  const Floats low = Floats{} + a.low, high = Floats{} + a.high;
  if constexpr (kEpilogue == Epilogue::kGate) {
    const Floats value = load_wide(gate);
    sum = value >= low ? sum : Floats{};
    sum = value <= high ? sum : Floats{};
  } else if constexpr (kEpilogue == Epilogue::kClamp) {
    const Floats value = rounded(sum);
    if (bits != nullptr) store(bits, bits_within(value, low, high));
    sum = value < low ? low : value;
    sum = sum > high ? high : sum;
  }
  store_narrow(y, sum);
}

template <Epilogue kEpilogue, std::int64_t kCount>
void tile(const LowRank& a, const Place& at) {
  Floats sums[kCount][kVectors];
#pragma GCC unroll 8
  for (std::int64_t m = 0; m < kCount; ++m)
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) sums[m][v] = load_wide(at.y + m * at.ld_y + v * kWide);
  add_products(a, at, sums);
#pragma GCC unroll 8
  for (std::int64_t m = 0; m < kCount; ++m)
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const Place to = at.at(m, v * kWide, a.rank);
      finish<kEpilogue>(sums[m][v], a, to.y, to.gate, to.bits);
    }
}

// `rows` rows of kPackedWidth columns.
template <Epilogue kEpilogue>
void panel(const LowRank& a, const Place& at, std::int64_t rows) {
  for (std::int64_t column = 0; column < kPackedWidth; column += kColumns) {
    std::int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) tile<kEpilogue, kRows>(a, at.at(row, column, a.rank));
    for (; row < rows; ++row) tile<kEpilogue, 1>(a, at.at(row, column, a.rank));
  }
}

// The last columns, fewer than a panel's, where one fits.
template <Epilogue kEpilogue>
void panel_at_the_edge(const LowRank& a, const Place& at, std::int64_t rows, std::int64_t count) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const Place from = at.at(row, 0, a.rank);
    Bf16 y[kPackedWidth] = {}, gate[kPackedWidth] = {};
    std::uint8_t bits[kPackedWidth / 8] = {};
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof *y;
    std::memcpy(y, from.y, bytes);
    if (from.gate != nullptr) std::memcpy(gate, from.gate, bytes);
    panel<kEpilogue>(a, {y, from.gate == nullptr ? nullptr : gate, bits, from.h, from.b, 0, 0}, 1);
    std::memcpy(from.y, y, bytes);
    if (from.bits != nullptr) std::memcpy(from.bits, bits, static_cast<std::size_t>((count + 31) / 32 * 4));
  }
}

template <Epilogue kEpilogue>
void rows_with(const LowRank& a, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kBlockRows = 16;  // few enough for their pages and cache lines to stay at hand
  const std::int64_t whole = a.columns - a.columns % kPackedWidth, ld_bits = (a.columns + 31) / 32 * 4;
  const Place all{a.y, a.gate, reinterpret_cast<std::uint8_t*>(a.bits), a.h, a.b, a.columns, ld_bits};
  for (std::int64_t n = begin; n < end; n += kBlockRows) {
    const std::int64_t rows = n + kBlockRows < end ? kBlockRows : end - n;
    for (std::int64_t first = 0; first < a.columns; first += kPackedWidth) {
      Place at = all.at(n, first, a.rank);
      if (a.b != nullptr) at.b = a.b + first * a.rank;
      if (first < whole)
        panel<kEpilogue>(a, at, rows);
      else
        panel_at_the_edge<kEpilogue>(a, at, rows, a.columns - first);
    }
  }
}

void low_rank(const LowRank& a, std::int64_t begin, std::int64_t end) {
  switch (a.epilogue) {
    case Epilogue::kNone:
      return rows_with<Epilogue::kNone>(a, begin, end);
    case Epilogue::kClamp:
      return rows_with<Epilogue::kClamp>(a, begin, end);
    case Epilogue::kGate:
      return rows_with<Epilogue::kGate>(a, begin, end);
  }
}

void masked(const Masked& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t words = (a.columns + 31) / 32, whole = a.columns / 32;
  for (std::int64_t n = begin; n < end; ++n) {
    const Bf16* x = a.x + n * a.columns;
    Bf16* y = a.y + n * a.columns;
    const std::uint32_t* bits = a.bits + n * words;
    for (std::int64_t w = 0; w < whole; ++w) keep_where(bits[w], x + w * 32, y + w * 32);
    for (std::int64_t i = whole * 32; i < a.columns; ++i) y[i] = (bits[whole] >> (i - whole * 32)) & 1u ? x[i] : Bf16{};
  }
}

constexpr LowRankLoops kLoops{low_rank, masked};

}  // namespace

const LowRankLoops& BEZEL_SIMD_LOW_RANK_LOOPS() { return kLoops; }

}  // namespace bezel::kernels::simd
