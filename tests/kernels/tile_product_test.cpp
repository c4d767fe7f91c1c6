// Products by tile units. Their instructions are run by a model of them here, and by the processor where it has them.
#include "bezel/kernels/simd/tile_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bezel/error.h"
#include "bezel/kernels/bidirectional_attention.h"
#include "bezel/kernels/describe_products.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/ranged_attention.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_model.h"
#include "bezel/kernels/simd/tile_units.h"
#include "bezel/kernels/skinny_gemm.h"
#include "bezel/kernels/unpack.h"
#include "bezel/nn/linear.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"
#include "bezel/quant/packed.h"
#include "bezel/report/doctor.h"
#include "tests/support/trapped_tiles.h"

namespace bezel::kernels {
namespace {

using simd::Bf16;
using simd::TileConfig;
using simd::TileModel;
using torch::Tensor;

// Tile 0 = tile 1 · tile 2 of these sizes.
TileConfig config_of(std::int64_t rows, std::int64_t pairs, std::int64_t columns) {
  TileConfig config{.palette = 1};
  const auto set = [&config](int tile, std::int64_t tile_rows, std::int64_t words) {
    config.rows[tile] = static_cast<std::uint8_t>(tile_rows);
    config.row_bytes[tile] = static_cast<std::uint16_t>(4 * words);
  };
  set(0, rows, columns), set(1, rows, pairs), set(2, pairs, columns);
  return config;
}

TEST(TileConfig, HasTheLayoutOfTheInstruction) {
  TileConfig config{.palette = 1, .start_row = 7};
  config.row_bytes[0] = 0x1234, config.row_bytes[7] = 0x0040, config.rows[0] = 16, config.rows[7] = 3;
  std::uint8_t bytes[64];
  std::memcpy(bytes, &config, sizeof bytes);
  EXPECT_EQ(bytes[0], 1);
  EXPECT_EQ(bytes[1], 7);
  EXPECT_EQ(bytes[16], 0x34);
  EXPECT_EQ(bytes[17], 0x12);
  EXPECT_EQ(bytes[16 + 2 * 7], 0x40);
  EXPECT_EQ(bytes[48], 16);
  EXPECT_EQ(bytes[48 + 7], 3);
}

TEST(TileModel, RefusesConfigurationsThatFault) {
  const auto refuses = [](const std::function<void(TileConfig&)>& spoil) {
    TileConfig config = config_of(16, 16, 16);
    spoil(config);
    EXPECT_THROW(TileModel().configure(config), c10::Error);
  };
  EXPECT_NO_THROW(TileModel().configure(config_of(16, 16, 16)));
  refuses([](TileConfig& config) { config.palette = 2; });
  refuses([](TileConfig& config) { config.reserved[13] = 1; });
  refuses([](TileConfig& config) { config.rows[1] = 17; });
  refuses([](TileConfig& config) { config.row_bytes[1] = 68; });
  refuses([](TileConfig& config) { config.rows[2] = 0; });
  refuses([](TileConfig& config) { config.row_bytes[2] = 0; });
  refuses([](TileConfig& config) { config.rows[8] = 1, config.row_bytes[8] = 4; });
}

TEST(TileModel, RefusesInstructionsThatFault) {
  TileModel model;
  float memory[256] = {};
  EXPECT_THROW(model.load(0, memory, 64), c10::Error) << "nothing is configured";
  EXPECT_THROW(model.zero(0), c10::Error);
  model.configure(config_of(4, 3, 5));
  EXPECT_NO_THROW(model.load(0, memory, 64));
  EXPECT_NO_THROW(model.dot(0, 1, 2));
  EXPECT_THROW(model.load(3, memory, 64), c10::Error) << "that tile is not configured";
  EXPECT_THROW(model.load(8, memory, 64), c10::Error);
  EXPECT_THROW(model.dot(0, 2, 1), c10::Error) << "sizes do not fit";
  EXPECT_THROW(model.dot(0, 1, 1), c10::Error);
  EXPECT_THROW(model.dot(1, 1, 2), c10::Error);
  model.release();
  EXPECT_THROW(model.store(0, memory, 64), c10::Error);
  model.configure(config_of(4, 3, 5));
  model.configure(TileConfig{});  // palette 0
  EXPECT_THROW(model.zero(0), c10::Error);
}

TEST(TileModel, TouchesOnlyTheRowsAndBytesOfATile) {
  TileModel model;
  model.configure(config_of(2, 1, 3));
  float from[3][8], to[3][8];
  for (int i = 0; i < 24; ++i) from[i / 8][i % 8] = static_cast<float>(i), to[i / 8][i % 8] = -1.0f;
  model.load(0, from, sizeof from[0]);
  model.store(0, to, sizeof to[0]);
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 8; ++column)
      EXPECT_EQ(to[row][column], row < 2 && column < 3 ? from[row][column] : -1.0f) << row << ", " << column;
}

// One sum of one pair after the other: as float32 sees it, even and odd places apart.
TEST(TileModel, SumsEvenAndOddPlacesApart) {
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b, float start) {
    TileModel model;
    model.configure(config_of(1, static_cast<std::int64_t>(a.size()) / 2, 1));
    std::vector<Bf16> left, right;
    for (const float value : a) left.push_back(simd::narrow(value));
    for (const float value : b) right.push_back(simd::narrow(value));
    model.load(0, &start, 4);
    model.load(1, left.data(), 64);
    model.load(2, right.data(), 4);
    model.dot(0, 1, 2);
    float sum = 0;
    model.store(0, &sum, 4);
    return sum;
  };
  const float big = std::ldexp(1.0f, 24), tiny = std::ldexp(1.0f, -126), small = 0.125f;
  EXPECT_EQ(dot({2, 3, 4, 5}, {1, 10, 100, 1000}, 7.0f), 5439.0f);
  // Even: big + 1 rounds to big; odd: 1 - big + ... is exact. In the order of places 1 would get lost twice.
  EXPECT_EQ(dot({big, 1, 1, -big, 0, 1}, {1, 1, 1, 1, 1, 1}, 0.0f), 2.0f);
  // The start is added last: big + (1 + 1), not (big + 1) + 1.
  EXPECT_EQ(dot({1, 1}, {1, 1}, big), big + 2.0f);
  // Ties to even: 1 + 2^24 is half way, 3 + 2^24 too.
  EXPECT_EQ(dot({1, 0}, {1, 1}, big), big);
  EXPECT_EQ(dot({3, 0}, {1, 1}, big), big + 4.0f);
  // A product is added before anything is rounded or flushed: fused.
  EXPECT_EQ(dot({tiny, 0, tiny, 0}, {1, 1, small, 1}, 0.0f), tiny * (1 + small));
  EXPECT_EQ(dot({small * tiny, 0}, {1024, 1}, 0.0f), 0.0f) << "a denormal factor is zero";
  EXPECT_EQ(dot({tiny, 0}, {small, 1}, 0.0f), 0.0f) << "a denormal result is zero";
  EXPECT_EQ(dot({0, 0}, {1, 1}, small * tiny), 0.0f) << "a denormal start is zero";
  EXPECT_EQ(dot({tiny, 0}, {1, 1}, 0.0f), tiny);
  EXPECT_TRUE(std::isnan(dot({INFINITY, 0}, {0, 1}, 0.0f)));
  EXPECT_EQ(dot({INFINITY, 0}, {1, 1}, 0.0f), INFINITY);
}

// What a product reads and writes, with strides and what lies between; NaN wherever nothing may be read.
struct Factors {
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::int64_t rows, columns, inner, ld_a, ld_b, ld_c;
  std::vector<Bf16> a, b;
  std::vector<float> c;

  Factors(std::int64_t rows, std::int64_t columns, std::int64_t inner)
      : rows(rows),
        columns(columns),
        inner(inner),
        ld_a(inner + 6),
        ld_b(columns + 3),
        ld_c(columns + 5),
        a(rows * ld_a, simd::narrow(kNan)),
        b(inner * ld_b, simd::narrow(kNan)),
        c(rows * ld_c, -77.0f) {
    std::mt19937 random(static_cast<unsigned>(rows * 10007 + columns * 101 + inner));
    std::normal_distribution<float> normal;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < inner; ++i) a[row * ld_a + i] = simd::narrow(normal(random));
      for (std::int64_t column = 0; column < columns; ++column) c[row * ld_c + column] = normal(random);
    }
    for (std::int64_t i = 0; i < inner; ++i)
      for (std::int64_t column = 0; column < columns; ++column)
        b[i / 2 * 2 * ld_b + 2 * column + i % 2] = simd::narrow(normal(random));
  }

  std::vector<float> product(const simd::TileProducts& by, bool add) const {
    std::vector<float> sums = c;
    by.configure();
    by.product(simd::by_rows({a.data(), b.data(), sums.data(), rows, columns, inner, ld_a, ld_b, ld_c, add}));
    by.release();
    return sums;
  }

  // In double, and the sum of what is added up without its signs.
  std::pair<double, double> naive(std::int64_t row, std::int64_t column, bool add) const {
    double sum = add ? c[row * ld_c + column] : 0.0, size = std::fabs(sum);
    for (std::int64_t i = 0; i < inner; ++i) {
      const double term =
          static_cast<double>(simd::widen(a[row * ld_a + i])) * simd::widen(b[i / 2 * 2 * ld_b + 2 * column + i % 2]);
      sum += term, size += std::fabs(term);
    }
    return {sum, size};
  }

  void expect_product(const simd::TileProducts& by) const {
    for (const bool add : {false, true}) {
      const std::vector<float> got = product(by, add);
      std::int64_t wrong = 0;
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t column = 0; column < ld_c; ++column) {
          if (column >= columns) {
            ASSERT_EQ(got[row * ld_c + column], -77.0f) << "beyond the columns of row " << row;
            continue;
          }
          const auto [sum, size] = naive(row, column, add);
          // Half a unit of float32 for each of a few sums, one after the other; false for NaN.
          if (!(std::fabs(got[row * ld_c + column] - sum) <= 1e-6 * size)) ++wrong;
        }
      EXPECT_EQ(wrong, 0) << rows << " x " << columns << " x " << inner << (add ? ", added" : "");
    }
  }
};

const std::int64_t kSomeRows[] = {1, 4, 15, 16, 17, 28, 32, 36, 48, 49};
const std::int64_t kSomeColumns[] = {16, 32, 48, 64, 80};
const std::int64_t kSomeInner[] = {2, 30, 32, 34, 62, 64, 98};

TEST(TileProduct, OfTheModelIsThatOfPlainLoops) {
  for (const std::int64_t rows : kSomeRows)
    for (const std::int64_t columns : kSomeColumns)
      for (const std::int64_t inner : kSomeInner)
        Factors(rows, columns, inner).expect_product(simd::modelled_tile_products());
}

TEST(TileProduct, OfTheProcessorIsThatOfTheModel) {
  if (simd::tile_products() == nullptr) {
    const std::string why = simd::why_no_tile_products();
    GTEST_SKIP() << "not run: " << (why.empty() ? "this processor has no tile units (AMX)" : why);
  }
  for (const std::int64_t rows : kSomeRows)
    for (const std::int64_t columns : kSomeColumns)
      for (const std::int64_t inner : kSomeInner) {
        const Factors factors(rows, columns, inner);
        factors.expect_product(*simd::tile_products());
        for (const bool add : {false, true}) {
          const std::vector<float> got = factors.product(*simd::tile_products(), add),
                                   wanted = factors.product(simd::modelled_tile_products(), add);
          for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], 1e-4) << i;
        }
      }
}

// Why code that is compiled for AMX cannot be run instruction by instruction.
std::string why_not_trapped() {
  if (simd::amx_tile_products() == nullptr) return "this compiler does not know AMX";
  if (!test::TrappedTiles::works()) return "instructions are trapped on Linux for x86-64 only";
  const bool has_none = simd::tile_products() == nullptr && simd::why_no_tile_products().empty();
  return has_none ? "" : "this processor has tile units of its own";
}

// The code that is compiled for AMX, each of its instructions run by the model.
TEST(TileProduct, AsCompiledIsThatOfPlainLoops) {
  if (const std::string why = why_not_trapped(); !why.empty()) GTEST_SKIP() << "not run: " << why;
  const test::TrappedTiles trapped;
  for (const std::int64_t rows : {4, 16, 17, 32, 49})
    for (const std::int64_t columns : {16, 32, 48})
      for (const std::int64_t inner : {2, 32, 98}) {
        const Factors factors(rows, columns, inner);
        const long before = test::TrappedTiles::count();
        factors.expect_product(*simd::amx_tile_products());
        ASSERT_GT(test::TrappedTiles::count(), before);
        EXPECT_EQ(factors.product(*simd::amx_tile_products(), true),
                  factors.product(simd::modelled_tile_products(), true));
      }
  EXPECT_TRUE(simd::are_right(*simd::amx_tile_products()));
}

TEST(TileProduct, IsSwitchedOffByTheEnvironment) {
  EXPECT_TRUE(simd::wants_tile_units(nullptr));
  EXPECT_TRUE(simd::wants_tile_units(""));
  EXPECT_TRUE(simd::wants_tile_units("1"));
  EXPECT_FALSE(simd::wants_tile_units("0"));
  EXPECT_THROW(simd::wants_tile_units("off"), Error);
}

TEST(TileProduct, IsTrustedOnlyWhereItIsRight) {
  EXPECT_TRUE(simd::are_right(simd::modelled_tile_products()));
  simd::TileProducts wrong = simd::modelled_tile_products();
  wrong.product = [](const simd::TileProduct& p) {
    simd::modelled_tile_products().product(p);
    p.c[(p.rows - 1) * p.ld_c + p.columns - 1] += 0.001f;
  };
  EXPECT_FALSE(simd::are_right(wrong));
  wrong.product = [](const simd::TileProduct& p) {
    simd::modelled_tile_products().product(p);
    p.c[p.columns] = 1.0f;  // beyond a row
  };
  EXPECT_FALSE(simd::are_right(wrong));
  wrong.product = [](const simd::TileProduct&) {};
  EXPECT_FALSE(simd::are_right(wrong));
}

// Through what training calls, by the model. "Fused": run for each instruction set.
class FusedTileUnits : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(37); }

  static Tensor random(std::vector<std::int64_t> shape) { return torch::randn(shape).to(torch::kBFloat16); }
  static Tensor wide(const Tensor& x) { return x.to(torch::kDouble); }
  // One rounding to bfloat16 of a sum in float32.
  static void expect_close(const Tensor& got, const Tensor& wanted, const std::string& what = "") {
    ASSERT_EQ(got.sizes(), wanted.sizes());
    EXPECT_TRUE(torch::allclose(wide(got), wide(wanted), 1.0 / 256, 1e-3)) << what << " " << got.sizes();
  }
};

TEST_F(FusedTileUnits, AreNamedWhereTheyAreUsed) {
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  EXPECT_EQ(describe_products(), "tile units");
  EXPECT_TRUE(takes_windows(random({2, 2})));
}

TEST_F(FusedTileUnits, OutsideOfARegionAreRefused) {
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  EXPECT_THROW(simd::multiply(simd::TileProduct{}), c10::Error);
  const Factors factors(16, 16, 32);
  { const simd::TileRegion region, inside; }
  std::vector<float> sums = factors.c;  // by dot products, not by tiles that nobody configured
  EXPECT_NO_THROW(simd::multiply(simd::Product{factors.a.data(), factors.b.data(), sums.data(), 16, 16, 32,
                                               factors.ld_a, factors.ld_b, factors.ld_c}));
}

TEST_F(FusedTileUnits, MultiplyDenseMatrices) {
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  for (const std::int64_t count : {2, 16, 71})
    for (const auto& [rows, columns] :
         {std::pair<std::int64_t, std::int64_t>{128, 128}, {16, 300}, {300, 16}, {66, 290}, {7, 9}})
      for (const auto dtype : {torch::kBFloat16, torch::kFloat}) {
        const Tensor w = torch::randn({rows, columns}).to(dtype), values = wide(w.to(torch::kBFloat16));
        const Tensor x = random({count, columns}), dy = random({count, rows});
        expect_close(matmul_nt(x, w), at::mm(wide(x), values.t()));
        expect_close(matmul_nn(dy, w), at::mm(wide(dy), values));
        expect_close(matmul_nt(x.t().contiguous().t(), w), at::mm(wide(x), values.t()), "by columns");
      }
}

TEST_F(FusedTileUnits, MultiplyByFewColumns) {
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  for (const std::int64_t count : {1, 3, 16, 70, 300})
    for (const std::int64_t rank : {1, 16, 20, 100}) {
      const Tensor x = random({count, 66}), w = torch::randn({66, rank}), h = random({count, rank});
      ASSERT_TRUE(has_skinny_gemm(x, rank));
      expect_close(skinny_gemm(x, w), at::mm(wide(x), wide(w.to(torch::kBFloat16))));
      const Tensor wanted = at::mm(wide(x).t(), wide(h));
      EXPECT_TRUE(torch::allclose(wide(skinny_gemm_tn(x, h)), wanted, 1e-4, 1e-4));
      EXPECT_TRUE(torch::allclose(wide(skinny_gemm_tn(h, x)), wanted.t(), 1e-4, 1e-4));
    }
}

std::shared_ptr<const quant::Weight> stored_as(const std::string& storage, const Tensor& w) {
  if (storage == "nf4") return quant::four_bit_weight(quant::quantize_4bit(w, quant::FourBitType::kNf4, false), "w");
  if (storage == "nf4 twice")
    return quant::four_bit_weight(quant::quantize_4bit(w, quant::FourBitType::kNf4, true), "w");
  if (storage == "int8") return quant::integer_weight(quant::quantize_int8(w), "w");
  // Random blocks of a GGUF file: any code is a value.
  const io::GgufType type = storage == "Q8_0" ? io::GgufType::kQ8_0 : io::GgufType::kQ4_K;
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  const std::int64_t blocks = w.numel() / info.block_elements;
  Tensor rows = torch::randint(0, 256, {blocks, info.block_bytes}, torch::kByte);
  for (const std::int64_t at : {0, 2}) {
    if (at == 2 && type == io::GgufType::kQ8_0) break;
    rows.narrow(1, at, 2).copy_((torch::randn({blocks, 1}) / 100).to(torch::kHalf).view(torch::kByte));
  }
  return quant::packed_weight(rows.view({w.size(0), -1}), type, w.sizes().vec(), "w");
}

// A layer with an adapter: y, and the gradients of x, A and B.
std::vector<Tensor> run_layer(const std::shared_ptr<const quant::Weight>& weight, const Tensor& x, const Tensor& dy,
                              const Tensor& a, const Tensor& b) {
  nn::Linear layer(x.size(-1), dy.size(-1), nn::LinearImpl::Options{});
  layer->weight = weight;
  std::vector<Tensor> in;
  for (const Tensor& leaf : {x, a, b}) in.push_back(leaf.detach().clone().requires_grad_());
  layer->adapter = nn::Adapter{.a = in[1], .b = in[2], .scale = 0.5, .dropout = 0.0};
  std::vector<Tensor> out{layer(in[0])};
  for (const Tensor& gradient : torch::autograd::grad({out[0]}, in, {dy})) out.push_back(gradient);
  return out;
}

TEST_F(FusedTileUnits, GiveEveryStorageOfAMatrixTheSameBits) {
  const std::int64_t out = 196, in = 768;
  const Tensor w = random({out, in}) / 16, x = random({1, 37, in}), dy = random({1, 37, out});
  const Tensor a = torch::randn({8, in}) / 16, b = torch::randn({out, 8}) / 16;
  for (const std::string storage : {"nf4", "nf4 twice", "int8", "Q8_0", "Q4_K"}) {
    const auto weight = stored_as(storage, w);
    const auto dense = quant::dense_weight(weight->dequantize(torch::kBFloat16), "w");
    const std::vector<Tensor> without = run_layer(weight, x, dy, a, b);
    const simd::ScopedTileProducts model(simd::modelled_tile_products());
    const std::vector<Tensor> with = run_layer(weight, x, dy, a, b), of_dense = run_layer(dense, x, dy, a, b);
    for (std::size_t i = 0; i < with.size(); ++i) {
      EXPECT_TRUE(torch::equal(with[i], of_dense[i])) << storage << ", " << i;
      // Sums that end on different sides of a rounding, and what follows from them.
      const double error = (wide(with[i]) - wide(without[i])).abs().max().item<double>();
      EXPECT_LT(error, 0.01 * wide(without[i]).abs().max().item<double>()) << storage << ", " << i;
    }
  }
}

// A matrix that is made some rows at a time, as int8 and GGUF's are.
TEST_F(FusedTileUnits, SumUpPartsToTheBitsOfTheWhole) {
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  const std::int64_t inner = 2 * PartialSums::kStep + 90, columns = 100;
  const Tensor x = random({21, inner}), w = random({inner, columns});
  const auto windows = [](const Tensor& part) {
    return [part](const Window& window, Bf16* scratch, std::int64_t ld) {
      for (std::int64_t row = 0; row < window.rows; ++row)
        std::copy_n(simd::bf16(part) + (window.row + row) * part.size(1) + window.column, window.columns,
                    scratch + row * ld);
      return WindowRows{scratch, ld};
    };
  };
  const Tensor whole = tiled_gemm_nn(x, columns, windows(w));
  expect_close(whole, at::mm(wide(x), wide(w)));
  for (const std::int64_t step : {PartialSums::kStep, 2 * PartialSums::kStep}) {
    PartialSums sums(x.size(0), columns);
    for (std::int64_t row = 0; row < inner; row += step) {
      const std::int64_t rows = std::min(step, inner - row);
      sums.add(x.narrow(1, row, rows), windows(w.narrow(0, row, rows)));
    }
    EXPECT_TRUE(torch::equal(sums.rounded(), whole)) << step;
  }
  EXPECT_THROW(PartialSums(21, columns).rounded(), c10::Error);
}

// More than one part of 8 MiB.
TEST_F(FusedTileUnits, MultiplyATallMatrixOfCodes) {
  const Tensor w = random({300, 16384}) / 64, x = random({3, 16384}), dy = random({3, 300});
  const auto weight = quant::integer_weight(quant::quantize_int8(w), "w");
  const auto dense = quant::dense_weight(weight->dequantize(torch::kBFloat16), "w");
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  EXPECT_TRUE(torch::equal(weight->matmul(x), dense->matmul(x)));
  EXPECT_TRUE(torch::equal(weight->matmul_transposed(dy), dense->matmul_transposed(dy)));
  expect_close(dense->matmul_transposed(dy), at::mm(wide(dy), wide(dense->dequantize(torch::kBFloat16))));
}

// Every thread configures registers of its own, and releases them: what it finds in them otherwise would fault.
TEST_F(FusedTileUnits, AsCompiledMultiplyOnSeveralThreads) {
  if (const std::string why = why_not_trapped(); !why.empty()) GTEST_SKIP() << "not run: " << why;
  const Tensor w = random({200, 192}), x = random({70, 192}), dy = random({70, 200}), a = torch::randn({192, 16});
  const auto run = [&] {
    return std::vector<Tensor>{matmul_nt(x, w), matmul_nn(dy, w), skinny_gemm(x, a), skinny_gemm_tn(x, dy)};
  };
  std::vector<Tensor> wanted, got;
  {
    const simd::ScopedTileProducts model(simd::modelled_tile_products());
    wanted = run();
  }
  const test::TrappedTiles trapped;
  const simd::ScopedTileProducts compiled(*simd::amx_tile_products());
  const long before = test::TrappedTiles::count();
  got = run();
  EXPECT_GT(test::TrappedTiles::count(), before);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], wanted[i])) << i;
}

// Loss and gradients of a model with text, vision and audio towers in bfloat16, beside float32.
TEST_F(FusedTileUnits, AsCompiledSatisfyTheDoctor) {
  if (const std::string why = why_not_trapped(); !why.empty()) GTEST_SKIP() << "not run: " << why;
  const test::TrappedTiles trapped;
  const simd::ScopedTileProducts compiled(*simd::amx_tile_products());
  const long before = test::TrappedTiles::count();
  std::int64_t checks = 0;
  report::doctor(torch::kCPU, [&](const report::DoctorCheck& check) {
    EXPECT_TRUE(check.good()) << check.name << ": " << check.error << ", at most " << check.limit;
    ++checks;
  });
  EXPECT_GE(checks, 7);
  EXPECT_GT(test::TrappedTiles::count(), before + 1000);
}

TEST_F(FusedTileUnits, AttendToRunsOfKeys) {
  const std::int64_t tokens = 150, group = 2;
  const Tensor place = at::arange(tokens, at::kLong).view({1, 1, tokens});
  const RangedAttention a{random({2, tokens * group, 64}) / 8, random({2, tokens, 64}), random({2, tokens, 64}),
                          (place - 70).clamp_min(0), place + 1};
  const Tensor d_out = random({2, tokens * group, 64});
  const Attended wanted = ranged_attention(a);
  const AttentionGradients right = ranged_attention_backward(a, wanted, d_out);
  const simd::ScopedTileProducts model(simd::modelled_tile_products());
  const Attended got = ranged_attention(a);
  const AttentionGradients found = ranged_attention_backward(a, got, d_out);
  EXPECT_TRUE(torch::allclose(got.log_sum, wanted.log_sum, 1e-5, 1e-5));
  for (const auto& [one, other] :
       {std::pair{got.out, wanted.out}, {found.q, right.q}, {found.k, right.k}, {found.v, right.v}}) {
    const double most = wide(other).abs().max().item<double>();
    EXPECT_LT((wide(one) - wide(other)).abs().max().item<double>(), 0.01 * most);
    EXPECT_GT(most, 0.0);
  }
}

TEST_F(FusedTileUnits, AttendToAllPatches) {
  for (const std::int64_t columns : {64, 72}) {
    const Tensor q = random({150, 2, columns}) / 8, k = random({150, 2, columns}), v = random({150, 2, columns});
    const Tensor d_out = random({150, 2, columns});
    const Attended wanted = bidirectional_attention(q, k, v);
    const AttentionGradients right = bidirectional_attention_backward(q, k, v, wanted, d_out);
    const simd::ScopedTileProducts model(simd::modelled_tile_products());
    const Attended got = bidirectional_attention(q, k, v);
    const AttentionGradients found = bidirectional_attention_backward(q, k, v, got, d_out);
    for (const auto& [one, other] :
         {std::pair{got.out, wanted.out}, {found.q, right.q}, {found.k, right.k}, {found.v, right.v}}) {
      const double most = wide(other).abs().max().item<double>();
      EXPECT_LT((wide(one) - wide(other)).abs().max().item<double>(), 0.01 * most);
      EXPECT_GT(most, 0.0);
    }
  }
}

}  // namespace
}  // namespace bezel::kernels
