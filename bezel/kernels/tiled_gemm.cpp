#include "bezel/kernels/tiled_gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/io/divide_up.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using torch::Tensor;

constexpr std::int64_t kWidth = simd::kPackedWidth;  // columns of the result that are done at a time
static_assert(simd::kFp32Width == kWidth);
constexpr std::int64_t kInner = 256;  // of the sum: what a packed window of 32 KiB holds

// With the processor's products of bfloat16.
struct Native {
  using Factor = Bf16;
  static constexpr std::int64_t kRows = 4;       // a product takes rows in such groups
  static constexpr std::int64_t kPackRows = 16;  // that are multiplied in the time in which a window is packed

  static Tensor left(const Tensor& x) {
    const std::int64_t missing = io::round_up(x.size(0), kRows) - x.size(0);
    return missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, 0, 0, missing});
  }
  static void pack(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack({from.data, from.ld, rows, to});
  }
  static void pack_transposed(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack_transposed({from.data, from.ld, rows, to});
  }
  static void add(const Tensor& x, const Window& part, const Factor* packed, float* sums, bool add) {
    simd::products().product(
        {simd::bf16(x) + part.row, packed, sums, x.size(0), kWidth, part.rows, x.size(1), kWidth, kWidth, add});
  }
};

// With its tile units.
struct TileUnits {
  using Factor = Bf16;
  static constexpr std::int64_t kRows = simd::kTileRows, kPackRows = 128, kAcross = simd::kTileInner;
  static_assert(kInner % kAcross == 0 && kWidth % simd::kTileRows == 0);

  // Tile behind tile, so that each is contiguous: along a row of tiles first. Tails are zero.
  static Tensor left(const Tensor& given) {
    const Tensor x = given.stride(1) == 1 ? given : given.contiguous();
    const std::int64_t rows = x.size(0), inner = x.size(1), padded = io::round_up(inner, kAcross);
    Tensor tiles = at::empty({io::round_up(rows, kRows), padded}, x.options());
    at::parallel_for(0, tiles.size(0) / kRows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin * kRows; row < end * kRows; ++row)
        for (std::int64_t i = 0; i < padded; i += kAcross) {
          const std::int64_t count = row < rows ? std::min(kAcross, inner - i) : 0;
          Bf16* to = simd::bf16(tiles) + row / kRows * kRows * padded + i * kRows + row % kRows * kAcross;
          std::copy_n(simd::bf16(x) + row * x.stride(0) + i, count, to);
          std::fill(to + count, to + kAcross, Bf16{0});
        }
    });
    return tiles;
  }
  static void pack(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack({from.data, from.ld, rows, to});
    fill_tile(rows, to);
  }
  static void pack_transposed(const WindowRows& from, std::int64_t rows, std::int64_t /*columns*/, Factor* to) {
    simd::products().pack_transposed({from.data, from.ld, rows, to});
    fill_tile(rows, to);
  }
  static void add(const Tensor& x, const Window& part, const Factor* packed, float* sums, bool add) {
    const std::int64_t down = kRows * x.size(1), across = kRows * kAcross;
    simd::multiply(simd::TileProduct{simd::bf16(x) + part.row / kAcross * across, packed, sums, x.size(0),
                                     io::round_up(part.columns, simd::kTileRows), io::round_up(part.rows, kAcross),
                                     kAcross, down, across, kWidth, kWidth, add});
  }

 private:
  // Zeros behind the last rows, as in x.
  static void fill_tile(std::int64_t rows, Factor* to) {
    std::fill(to + rows * kWidth, to + io::round_up(rows, kAcross) * kWidth, Bf16{0});
  }
};

// In float32.
struct Wide {
  using Factor = float;
  static constexpr std::int64_t kRows = 4, kPackRows = 16;

  static Tensor left(const Tensor& given) {
    const Tensor x = given.contiguous();
    Tensor wide = at::empty(x.sizes(), x.options().dtype(torch::kFloat));
    at::parallel_for(0, x.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
      simd::fp32_gemm_kernels().widen(simd::bf16(x) + begin, wide.data_ptr<float>() + begin, end - begin);
    });
    return wide;
  }
  static void pack(const WindowRows& from, std::int64_t rows, std::int64_t columns, Factor* to) {
    simd::fp32_gemm_kernels().pack({from.data, from.ld, rows, columns, to});
  }
  static void pack_transposed(const WindowRows& from, std::int64_t rows, std::int64_t columns, Factor* to) {
    simd::fp32_gemm_kernels().pack_transposed({from.data, from.ld, rows, columns, to});
  }
  static void add(const Tensor& x, const Window& part, const Factor* packed, float* sums, bool add) {
    simd::fp32_gemm_kernels().product(
        {x.const_data_ptr<float>() + part.row, packed, sums, x.size(0), part.columns, part.rows, x.size(1), add});
  }
};

// What one thread works in.
template <typename Engine>
class Panel {
 public:
  explicit Panel(const Tensor& x) : x_(x), window_(kWidth * kInner), packed_(kWidth * kInner) {}

  Bf16* window() { return window_.data(); }
  typename Engine::Factor* packed() { return packed_.data(); }
  // Adds what a packed part of B gives to sums [rows of x, kWidth].
  void add(const Window& part, float* sums, bool add) const { Engine::add(x_, part, packed_.data(), sums, add); }

 private:
  const Tensor& x_;
  std::vector<Bf16> window_;
  std::vector<typename Engine::Factor> packed_;
};

// A panel of y [N, columns] from its sums.
void round_panel(const float* sums, std::int64_t column, std::int64_t columns, const Tensor& y) {
  simd::products().round({sums, kWidth, simd::bf16(y) + column, y.size(1), y.size(0), columns});
}

// Into how many shares of the rows each panel is divided, so that all threads have work; each share packs the panel
// anew.
template <typename Engine>
std::int64_t shares_of_rows(std::int64_t rows, std::int64_t panels) {
  const std::int64_t threads = at::get_num_threads();
  const auto time = [&](std::int64_t shares) {
    return io::divide_up(panels * shares, threads) * (io::divide_up(rows, shares) + Engine::kPackRows);
  };
  std::int64_t best = 1;
  for (std::int64_t shares = 2; shares <= threads; ++shares)
    if (time(shares) < time(best)) best = shares;
  return best;
}

// For each panel of the result, and each share of its rows: all of its sums [rows, kWidth], with what is in them
// already where `add` says so. `place` gives the memory for them by the panel's first column, the first row and the
// number of rows; `finish` gets them with the panel's columns, and the rows. `fill` packs a part of B, whose columns
// are those of the result.
template <typename Engine, typename Fill, typename Place, typename Finish>
void for_panels(const Tensor& given, std::int64_t columns, bool add, const Fill& fill, const Place& place,
                const Finish& finish) {
  const Tensor x = Engine::left(given);
  const std::int64_t panels = io::divide_up(columns, kWidth), shares = shares_of_rows<Engine>(x.size(0), panels);
  const std::int64_t wanted = io::divide_up(x.size(0), shares);
  const std::int64_t rows_each = io::round_up(wanted, Engine::kRows), inner = given.size(1);
  at::parallel_for(0, panels * shares, 1, [&](std::int64_t begin, std::int64_t end) {
    const simd::TileRegion region;
    for (std::int64_t share = begin / panels; share * panels < end; ++share) {
      const std::int64_t first = share * rows_each, count = std::min(rows_each, given.size(0) - first);
      if (count <= 0) return;
      const Tensor part_x = x.narrow(0, first, std::min(rows_each, x.size(0) - first));
      Panel<Engine> panel(part_x);
      std::vector<float> scratch;
      for (std::int64_t i = std::max(begin, share * panels); i < std::min(end, (share + 1) * panels); ++i) {
        const std::int64_t column = (i - share * panels) * kWidth;
        Window part{0, 0, column, std::min(kWidth, columns - column)};
        float* const sums = place(scratch, column, first, part_x.size(0));
        for (; part.row < inner; part.row += kInner) {
          part.rows = std::min(kInner, inner - part.row);
          fill(panel, part);
          panel.add(part, sums, add || part.row > 0);
        }
        finish(sums, part, first, count);
      }
    }
  });
}

template <typename Engine, typename Fill>
Tensor product(const Tensor& x, std::int64_t columns, const Fill& fill) {
  Tensor y = at::empty({x.size(0), columns}, x.options());
  const auto place = [](std::vector<float>& scratch, std::int64_t /*column*/, std::int64_t /*first*/,
                        std::int64_t rows) {
    scratch.resize(static_cast<std::size_t>(rows * kWidth));
    return scratch.data();
  };
  const auto finish = [&y](const float* sums, const Window& part, std::int64_t first, std::int64_t count) {
    round_panel(sums, part.column, part.columns, y.narrow(0, first, count));
  };
  for_panels<Engine>(x, columns, /*add=*/false, fill, place, finish);
  return y;
}

template <typename Engine>
Tensor product_nt(const Tensor& x, std::int64_t rows, const MakeWindow& w) {
  return product<Engine>(x, rows, [&w](Panel<Engine>& panel, const Window& part) {
    const WindowRows made = w({part.column, part.columns, part.row, part.rows}, panel.window(), kInner);
    Engine::pack_transposed(made, part.rows, part.columns, panel.packed());
  });
}

// Packs windows of w [inner, columns].
template <typename Engine>
auto fill_nn(const MakeWindow& w) {
  return [&w](Panel<Engine>& panel, const Window& part) {
    Engine::pack(w(part, panel.window(), kWidth), part.rows, part.columns, panel.packed());
  };
}

template <typename Engine>
Tensor product_nn(const Tensor& x, std::int64_t columns, const MakeWindow& w) {
  return product<Engine>(x, columns, fill_nn<Engine>(w));
}

}  // namespace

bool takes_windows(const Tensor& x) {
  return may_loop(x) && x.scalar_type() == torch::kBFloat16 && x.size(0) > 1 && x.size(1) % 2 == 0 &&
         (needs_fp32_gemm(torch::kBFloat16, torch::kCPU) || simd::has_own_products());
}

Tensor tiled_gemm_nt(const Tensor& x, std::int64_t rows, const MakeWindow& w) {
  if (simd::tile_products() != nullptr) return product_nt<TileUnits>(x, rows, w);
  return needs_fp32_gemm(torch::kBFloat16, torch::kCPU) ? product_nt<Wide>(x, rows, w) : product_nt<Native>(x, rows, w);
}

Tensor tiled_gemm_nn(const Tensor& x, std::int64_t columns, const MakeWindow& w) {
  if (simd::tile_products() != nullptr) return product_nn<TileUnits>(x, columns, w);
  return needs_fp32_gemm(torch::kBFloat16, torch::kCPU) ? product_nn<Wide>(x, columns, w)
                                                        : product_nn<Native>(x, columns, w);
}

static_assert(PartialSums::kStep % kInner == 0);

PartialSums::PartialSums(std::int64_t rows, std::int64_t columns)
    : rows_(rows),
      columns_(columns),
      sums_(at::empty({io::divide_up(columns, kWidth), io::round_up(rows, TileUnits::kRows), kWidth}, torch::kFloat)) {}

void PartialSums::add(const Tensor& x, const MakeWindow& part) {
  TORCH_CHECK(x.size(0) == rows_, x.sizes(), " is added to sums of ", rows_, " rows");
  const auto place = [this](std::vector<float>& /*scratch*/, std::int64_t column, std::int64_t first,
                            std::int64_t /*rows*/) {
    return sums_.data_ptr<float>() + (column / kWidth * sums_.size(1) + first) * kWidth;
  };
  const auto finish = [](const float* /*sums*/, const Window& /*part*/, std::int64_t /*first*/,
                         std::int64_t /*count*/) {};
  for_panels<TileUnits>(x, columns_, is_begun_, fill_nn<TileUnits>(part), place, finish);
  is_begun_ = true;
}

Tensor PartialSums::rounded() const {
  TORCH_CHECK(is_begun_, "nothing was added up");
  Tensor y = at::empty({rows_, columns_}, torch::kBFloat16);
  at::parallel_for(0, sums_.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel)
      round_panel(sums_.const_data_ptr<float>() + panel * sums_.size(1) * kWidth, panel * kWidth,
                  std::min(kWidth, columns_ - panel * kWidth), y);
  });
  return y;
}

}  // namespace bezel::kernels
