#include "bezel/kernels/simd/tile_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <c10/util/Exception.h>

#include "bezel/kernels/simd/tile_loops.h"

namespace bezel::kernels::simd {
namespace {

// Denormals count as zero, in and out.
float flushed(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}

template <typename Value>
Value element(const std::uint8_t* row, std::int64_t i) {
  Value value;
  std::memcpy(&value, row + i * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

float factor(const std::uint8_t* row, std::int64_t i) { return flushed(widen(element<Bf16>(row, i))); }

thread_local TileModel model;

struct ModelledTiles {
  static void configure(const TileConfig& config) { model.configure(config); }
  static void release() { model.release(); }
  template <int kTile>
  static void zero() {
    model.zero(kTile);
  }
  template <int kTile>
  static void load(const void* from, std::int64_t stride) {
    model.load(kTile, from, stride);
  }
  template <int kTile>
  static void store(void* to, std::int64_t stride) {
    model.store(kTile, to, stride);
  }
  template <int kTo, int kA, int kB>
  static void dot() {
    model.dot(kTo, kA, kB);
  }
};

constexpr TileProducts kModelled = products_of<ModelledTiles>();

}  // namespace

void TileModel::configure(const TileConfig& config) {
  if (config.palette == 0) return release();
  TORCH_CHECK(config.palette == 1, "LDTILECFG: palette ", int{config.palette}, ", expected 0 or 1");
  TORCH_CHECK(std::ranges::all_of(config.reserved, [](std::uint8_t byte) { return byte == 0; }),
              "LDTILECFG: reserved bytes are not zero");
  for (std::int64_t i = 0; i < 16; ++i) {
    const std::int64_t rows = config.rows[i], row_bytes = config.row_bytes[i];
    TORCH_CHECK(i < kTiles || (rows == 0 && row_bytes == 0), "LDTILECFG: tile ", i, ", and there are ", kTiles);
    TORCH_CHECK(rows <= kTileRows && row_bytes <= kTileStride, "LDTILECFG: tile ", i, " has ", rows, " rows of ",
                row_bytes, " bytes");
    TORCH_CHECK((rows == 0) == (row_bytes == 0), "LDTILECFG: tile ", i, " has ", rows, " rows of ", row_bytes,
                " bytes");
  }
  TORCH_CHECK(config.start_row == 0, "a start row is the processor's to set, got ", int{config.start_row});
  release();
  is_configured_ = true;
  for (std::int64_t i = 0; i < kTiles; ++i) tiles_[i].rows = config.rows[i], tiles_[i].row_bytes = config.row_bytes[i];
}

void TileModel::release() {
  is_configured_ = false;
  for (Register& tile : tiles_) tile = {};
}

TileModel::Register& TileModel::configured(std::int64_t tile) {
  TORCH_CHECK(is_configured_, "no tile is configured");
  TORCH_CHECK(tile >= 0 && tile < kTiles && tiles_[tile].rows > 0, "tile ", tile, " is not configured");
  TORCH_CHECK(tiles_[tile].row_bytes % 4 == 0, "tile ", tile, " has rows of ", tiles_[tile].row_bytes, " bytes");
  return tiles_[tile];
}

void TileModel::zero(std::int64_t tile) { std::memset(configured(tile).bytes, 0, sizeof(Register::bytes)); }

void TileModel::load(std::int64_t tile, const void* from, std::int64_t stride) {
  Register& to = configured(tile);
  std::memset(to.bytes, 0, sizeof to.bytes);
  for (std::int64_t row = 0; row < to.rows; ++row)
    std::memcpy(to.bytes[row], static_cast<const std::uint8_t*>(from) + row * stride,
                static_cast<std::size_t>(to.row_bytes));
}

void TileModel::store(std::int64_t tile, void* to, std::int64_t stride) {
  const Register& from = configured(tile);
  for (std::int64_t row = 0; row < from.rows; ++row)
    std::memcpy(static_cast<std::uint8_t*>(to) + row * stride, from.bytes[row],
                static_cast<std::size_t>(from.row_bytes));
}

void TileModel::dot(std::int64_t to_tile, std::int64_t a_tile, std::int64_t b_tile) {
  TORCH_CHECK(to_tile != a_tile && to_tile != b_tile && a_tile != b_tile, "TDPBF16PS of tiles ", to_tile, ", ", a_tile,
              " and ", b_tile);
  Register& to = configured(to_tile);
  const Register &a = configured(a_tile), &b = configured(b_tile);
  TORCH_CHECK(to.rows == a.rows && to.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows, "TDPBF16PS: [", to.rows,
              ", ", to.row_bytes, "] = [", a.rows, ", ", a.row_bytes, "] · [", b.rows, ", ", b.row_bytes, "]");
  for (std::int64_t m = 0; m < to.rows; ++m) {
    float sums[kTileRows][2] = {};
    for (std::int64_t k = 0; k < b.rows; ++k)
      for (std::int64_t n = 0; n < to.row_bytes / 4; ++n)
        for (const std::int64_t odd : {0, 1})
          sums[n][odd] =
              flushed(std::fma(factor(a.bytes[m], 2 * k + odd), factor(b.bytes[k], 2 * n + odd), sums[n][odd]));
    for (std::int64_t n = 0; n < to.row_bytes / 4; ++n) {
      const float sum = flushed(sums[n][0] + sums[n][1]);
      const float total = flushed(flushed(element<float>(to.bytes[m], n)) + sum);
      std::memcpy(to.bytes[m] + 4 * n, &total, sizeof total);
    }
  }
}

const TileProducts& modelled_tile_products() { return kModelled; }

}  // namespace bezel::kernels::simd
