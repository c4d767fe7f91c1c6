#pragma once

#include <algorithm>

#include "bezel/kernels/simd/tile_product.h"

// A product by tile registers, once for the processor's and once for their model. Unit has, of tile registers 0 to 7,
//   configure(const TileConfig&), release(), zero<tile>(),
//   load<tile>(from, stride), store<tile>(to, stride): rows `stride` bytes apart,
//   dot<to, a, b>(): to += a · b.
// Static: each has its own.

namespace bezel::kernels::simd {

/// Every tile whole: a tail is copied into a whole tile of zeros, so that shapes never change between products.
static inline TileConfig whole_tiles() {
  TileConfig config{.palette = 1};
  for (std::int64_t i = 0; i < kTiles; ++i) config.row_bytes[i] = kTileStride, config.rows[i] = kTileRows;
  return config;
}

// Registers 0 to 3 are sums: two rows of two tiles; 4 and 5 are A, 6 and 7 are B.
template <typename Unit>
class TileLoops {
 public:
  explicit TileLoops(const TileProduct& p) : p_(p) {}

  void run() {
    std::int64_t row = 0;
    for (; row + kTileRows < p_.rows; row += 2 * kTileRows) across<2>(row);
    if (row < p_.rows) across<1>(row);
  }

 private:
  static constexpr int kA = 4, kB = 6;
  static constexpr std::int64_t kBf16Bytes = sizeof(Bf16), kFloatBytes = sizeof(float);

  template <int kDown>
  void across(std::int64_t row) {
    std::int64_t column = 0;
    for (; column + kTileRows < p_.columns; column += 2 * kTileRows) block<kDown, 2>(row, column);
    if (column < p_.columns) block<kDown, 1>(row, column);
  }

  // kDown x kAcross tiles of the result.
  template <int kDown, int kAcross>
  void block(std::int64_t row, std::int64_t column) {
    begin<0>(row, column);
    if constexpr (kAcross > 1) begin<1>(row, column + kTileRows);
    if constexpr (kDown > 1) begin<2>(row + kTileRows, column);
    if constexpr (kDown > 1 && kAcross > 1) begin<3>(row + kTileRows, column + kTileRows);
    std::int64_t i = 0;
    if (row + kDown * kTileRows <= p_.rows) {  // whole tiles, from where they are
      const Bf16 *a = p_.a + row / kTileRows * p_.down_a, *b = p_.b + 2 * column;
      for (; i + kTileInner <= p_.inner; i += kTileInner, a += p_.across_a, b += kTileInner * p_.ld_b)
        step<kDown, kAcross>(
            [&]<int kTile>() { Unit::template load<kTile>(a + (kTile - kA) * p_.down_a, kBf16Bytes * p_.ld_a); },
            [&]<int kTile>() {
              Unit::template load<kTile>(b + (kTile - kB) * 2 * kTileRows, 2 * kBf16Bytes * p_.ld_b);
            });
    }
    for (; i < p_.inner; i += kTileInner)
      step<kDown, kAcross>([&]<int kTile>() { load_a<kTile>(row + (kTile - kA) * kTileRows, i); },
                           [&]<int kTile>() { load_b<kTile>(i, column + (kTile - kB) * kTileRows); });
    end<0>(row, column);
    if constexpr (kAcross > 1) end<1>(row, column + kTileRows);
    if constexpr (kDown > 1) end<2>(row + kTileRows, column);
    if constexpr (kDown > 1 && kAcross > 1) end<3>(row + kTileRows, column + kTileRows);
  }

  // What a tile's inner dimension adds to kDown x kAcross sums.
  template <int kDown, int kAcross, typename LoadA, typename LoadB>
  static void step(const LoadA& load_a, const LoadB& load_b) {
    load_b.template operator()<kB>();
    load_a.template operator()<kA>();
    Unit::template dot<0, kA, kB>();
    if constexpr (kAcross > 1) {
      load_b.template operator()<kB + 1>();
      Unit::template dot<1, kA, kB + 1>();
    }
    if constexpr (kDown > 1) {
      load_a.template operator()<kA + 1>();
      Unit::template dot<2, kA + 1, kB>();
    }
    if constexpr (kDown > 1 && kAcross > 1) Unit::template dot<3, kA + 1, kB + 1>();
  }

  template <int kTile>
  void load_a(std::int64_t row, std::int64_t i) {
    const std::int64_t rows = std::min(kTileRows, p_.rows - row), inner = std::min(kTileInner, p_.inner - i);
    const Bf16* from = p_.a + row / kTileRows * p_.down_a + i / kTileInner * p_.across_a;
    if (rows == kTileRows && inner == kTileInner) return Unit::template load<kTile>(from, kBf16Bytes * p_.ld_a);
    std::fill_n(copy_, kTileRows * kTileInner, Bf16{0});
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from + r * p_.ld_a, inner, copy_ + r * kTileInner);
    Unit::template load<kTile>(copy_, kTileStride);
  }

  template <int kTile>
  void load_b(std::int64_t i, std::int64_t column) {
    const std::int64_t pairs = std::min(kTileInner, p_.inner - i) / 2, ld = 2 * p_.ld_b;
    const Bf16* from = p_.b + i / 2 * ld + 2 * column;
    if (pairs == kTileInner / 2) return Unit::template load<kTile>(from, kBf16Bytes * ld);
    std::fill_n(copy_, kTileRows * kTileInner, Bf16{0});
    for (std::int64_t r = 0; r < pairs; ++r) std::copy_n(from + r * ld, kTileInner, copy_ + r * kTileInner);
    Unit::template load<kTile>(copy_, kTileStride);
  }

  // Sums so far.
  template <int kTile>
  void begin(std::int64_t row, std::int64_t column) {
    if (!p_.add) return Unit::template zero<kTile>();
    const std::int64_t rows = p_.rows - row;
    const float* from = p_.c + row * p_.ld_c + column;
    if (rows >= kTileRows) return Unit::template load<kTile>(from, kFloatBytes * p_.ld_c);
    std::fill_n(sums_, kTileRows * kTileRows, 0.0f);
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from + r * p_.ld_c, kTileRows, sums_ + r * kTileRows);
    Unit::template load<kTile>(sums_, kTileStride);
  }

  template <int kTile>
  void end(std::int64_t row, std::int64_t column) {
    const std::int64_t rows = p_.rows - row;
    float* to = p_.c + row * p_.ld_c + column;
    if (rows >= kTileRows) return Unit::template store<kTile>(to, kFloatBytes * p_.ld_c);
    Unit::template store<kTile>(sums_, kTileStride);
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(sums_ + r * kTileRows, kTileRows, to + r * p_.ld_c);
  }

  const TileProduct& p_;
  alignas(64) Bf16 copy_[kTileRows * kTileInner];
  alignas(64) float sums_[kTileRows * kTileRows];
};

template <typename Unit>
constexpr TileProducts products_of() {
  return {[] { Unit::configure(whole_tiles()); }, [] { Unit::release(); },
          [](const TileProduct& p) { TileLoops<Unit>(p).run(); }};
}

}  // namespace bezel::kernels::simd
