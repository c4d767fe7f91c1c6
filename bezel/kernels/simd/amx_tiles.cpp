// Compiled for AMX where the compiler knows it: nothing else may be, and dispatch calls it only where the processor and
// the kernel allow it.
#include <atomic>

#include "bezel/kernels/simd/tile_loops.h"

#if defined(__x86_64__) && defined(__AMX_TILE__) && defined(__AMX_BF16__)

#include <immintrin.h>

namespace bezel::kernels::simd {
namespace {

// GCC's intrinsics do not say that they read memory, and not all of what LDTILECFG reads: what was written before must
// be there, and what is written after may not be yet.
void keep_order() { std::atomic_signal_fence(std::memory_order_seq_cst); }

// GCC makes the register's name of the argument's text, so each is written out.
struct AmxTiles {
  static void configure(const TileConfig& config) {
    keep_order();
    _tile_loadconfig(&config);
    keep_order();
  }

  static void release() { _tile_release(); }

  template <int kTile>
  static void zero() {
    static_assert(kTile < 4);
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
  }

  template <int kTile>
  static void load(const void* from, std::int64_t stride) {
    static_assert(kTile < 8);
    keep_order();
    if constexpr (kTile == 0) _tile_loadd(0, from, stride);
    if constexpr (kTile == 1) _tile_loadd(1, from, stride);
    if constexpr (kTile == 2) _tile_loadd(2, from, stride);
    if constexpr (kTile == 3) _tile_loadd(3, from, stride);
    if constexpr (kTile == 4) _tile_loadd(4, from, stride);
    if constexpr (kTile == 5) _tile_loadd(5, from, stride);
    if constexpr (kTile == 6) _tile_loadd(6, from, stride);
    if constexpr (kTile == 7) _tile_loadd(7, from, stride);
    keep_order();
  }

  template <int kTile>
  static void store(void* to, std::int64_t stride) {
    static_assert(kTile < 4);
    keep_order();
    if constexpr (kTile == 0) _tile_stored(0, to, stride);
    if constexpr (kTile == 1) _tile_stored(1, to, stride);
    if constexpr (kTile == 2) _tile_stored(2, to, stride);
    if constexpr (kTile == 3) _tile_stored(3, to, stride);
    keep_order();
  }

  template <int kTo, int kA, int kB>
  static void dot() {
    static_assert(kTo < 4 && kA == 4 + kTo / 2 && kB == 6 + kTo % 2);
    if constexpr (kTo == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTo == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTo == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kTo == 3) _tile_dpbf16ps(3, 5, 7);
  }
};

constexpr TileProducts kProducts = products_of<AmxTiles>();

}  // namespace

const TileProducts* amx_tile_products() { return &kProducts; }

}  // namespace bezel::kernels::simd

#else

namespace bezel::kernels::simd {

const TileProducts* amx_tile_products() { return nullptr; }

}  // namespace bezel::kernels::simd

#endif
