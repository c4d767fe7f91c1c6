#pragma once

#include <cstdint>

#include "bezel/kernels/simd/product.h"

namespace bezel::kernels::simd {

/// What LDTILECFG reads (Intel SDM, volume 1, chapter 18, and volume 2, LDTILECFG): shapes of the tile registers.
struct TileConfig {
  std::uint8_t palette = 0;          ///< 1: eight tiles of at most 16 rows of 64 bytes; 0: none
  std::uint8_t start_row = 0;        ///< where a load that a fault broke off goes on
  std::uint8_t reserved[14] = {};    ///< zero
  std::uint16_t row_bytes[16] = {};  ///< of each tile; those beyond the palette's are zero
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

constexpr std::int64_t kTiles = 8;
constexpr std::int64_t kTileRows = 16;    ///< of A and of the result, and columns of B and of the result
constexpr std::int64_t kTileInner = 32;   ///< columns of A: as many pairs as a tile of B has rows
constexpr std::int64_t kTileStride = 64;  ///< bytes of a row, which a stored tile's rows are apart

/// c = a · b, or c += a · b with `add`, as Product: but any number of `rows`, and A may be stored tile by tile.
struct TileProduct {
  const Bf16* a;
  const Bf16* b;  ///< [inner / 2, columns, 2]: neighboring rows in pairs
  float* c;       ///< [rows, columns]
  std::int64_t rows;
  std::int64_t columns;   ///< a multiple of 16
  std::int64_t inner;     ///< even
  std::int64_t ld_a;      ///< elements from one row of a tile of A to the next
  std::int64_t down_a;    ///< elements from a tile of A to the one below it
  std::int64_t across_a;  ///< elements from a tile of A to the one beside it
  std::int64_t ld_b;      ///< pairs from one pair of rows of b to the next
  std::int64_t ld_c;
  bool add = false;
};

/// A product whose A is stored by rows.
inline TileProduct by_rows(const Product& p) {
  return {p.a, p.b, p.c, p.rows, p.columns, p.inner, p.ld_a, kTileRows * p.ld_a, kTileInner, p.ld_b, p.ld_c, p.add};
}

/// Products by tile registers. A thread configures its own before its first product and releases them after its last.
struct TileProducts {
  void (*configure)();
  void (*release)();
  void (*product)(const TileProduct&);
};

/// By the processor's tile units (AMX-TILE and AMX-BF16); null where the compiler does not know them. Only for a
/// processor that has them, once the kernel has permitted them.
const TileProducts* amx_tile_products();

/// By TileModel, in plain loops.
const TileProducts& modelled_tile_products();

}  // namespace bezel::kernels::simd
