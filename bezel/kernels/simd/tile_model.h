#pragma once

#include <cstdint>

#include "bezel/kernels/simd/tile_product.h"

namespace bezel::kernels::simd {

/// A processor's tile registers in plain loops, as Intel's SDM describes the instructions (volume 2: LDTILECFG,
/// TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBF16PS), for tests on machines that have none. What faults there
/// throws c10::Error here.
class TileModel {
 public:
  /// LDTILECFG. Palette 0 releases.
  void configure(const TileConfig& config);
  /// TILERELEASE
  void release();
  /// TILEZERO
  void zero(std::int64_t tile);
  /// TILELOADD: rows `stride` bytes apart; what a smaller tile leaves of a register is zero.
  void load(std::int64_t tile, const void* from, std::int64_t stride);
  /// TILESTORED
  void store(std::int64_t tile, void* to, std::int64_t stride);
  /// TDPBF16PS: to += a · b. Two sums in float32 by fused multiply-adds, of even and of odd places, from zero; their
  /// sum is added to `to`. Rounded to the nearest, ties to even; denormal factors and results are zero.
  void dot(std::int64_t to, std::int64_t a, std::int64_t b);

 private:
  struct Register {
    std::int64_t rows = 0, row_bytes = 0;
    alignas(64) std::uint8_t bytes[kTileRows][kTileStride] = {};
  };

  Register& configured(std::int64_t tile);

  bool is_configured_ = false;
  Register tiles_[kTiles];
};

}  // namespace bezel::kernels::simd
