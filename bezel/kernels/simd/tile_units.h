#pragma once

#include <string>

#include "bezel/kernels/simd/tile_product.h"

namespace bezel::kernels::simd {

/// Products by the processor's tile units (AMX), where they are used: the processor and the kernel have them,
/// LibTorch's settings (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA) allow them, BEZEL_TILE_UNITS is not 0, and a small
/// product came out as in plain loops. Null elsewhere. Throws Error for a BEZEL_TILE_UNITS that is neither 0 nor 1.
const TileProducts* tile_products();

/// Why tile units that the processor has are not used; empty where they are, or where it has none.
std::string why_no_tile_products();

/// The same, but empty where a setting keeps them from being used: what a user should hear of.
std::string tile_units_fault();

/// While it lives, multiply() uses tile units on this thread, where there are any: for what one thread computes in one
/// go, as their registers are part of the thread's state. Inside another one of the same thread it does nothing.
class TileRegion {
 public:
  TileRegion();
  ~TileRegion();
  TileRegion(const TileRegion&) = delete;
  TileRegion& operator=(const TileRegion&) = delete;

 private:
  bool is_outermost_;
};

/// A product by tile units in a TileRegion, by products() elsewhere.
void multiply(const Product& p);

/// The same for a product that only tile units take; in a TileRegion where tile_products() is there.
void multiply(const TileProduct& p);

/// What BEZEL_TILE_UNITS says: 1, or nothing: true; 0: false. Throws Error for anything else.
bool wants_tile_units(const char* given);

/// Whether these products are those of a · b by plain loops, up to the rounding of float32: what tile_products() asks
/// of a processor.
bool are_right(const TileProducts& products);

/// For tests: while it lives, tile_products() are these, such as those of TileModel, thousands of times slower. Not to
/// be used while another thread multiplies.
class ScopedTileProducts {
 public:
  explicit ScopedTileProducts(const TileProducts& products);
  ~ScopedTileProducts();
  ScopedTileProducts(const ScopedTileProducts&) = delete;
  ScopedTileProducts& operator=(const ScopedTileProducts&) = delete;
};

}  // namespace bezel::kernels::simd
