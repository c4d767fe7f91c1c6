// Products whose matrix is made a window at a time, against the same in ATen's operators over the whole matrix.
#include "bezel/kernels/tiled_gemm.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/dequantize.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/quant/four_bit.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

class FusedTiledGemm : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(31); }

  Tensor random(std::vector<std::int64_t> shape) const { return torch::randn(shape).to(torch::kBFloat16); }
  Tensor wide(const Tensor& x) const { return x.to(torch::kDouble); }

  // One rounding to bfloat16 of a sum in float32.
  void expect_close(const Tensor& got, const Tensor& wanted) const {
    ASSERT_EQ(got.scalar_type(), torch::kBFloat16);
    ASSERT_EQ(got.sizes(), wanted.sizes());
    EXPECT_TRUE(torch::allclose(wide(got), wanted, 1.0 / 256, 1e-3)) << got.sizes();
  }

  MakeWindow windows_of(const Tensor& w) const {
    return [w](const Window& window, simd::Bf16* scratch, std::int64_t ld) {
      for (std::int64_t row = 0; row < window.rows; ++row)
        std::copy_n(simd::bf16(w) + (window.row + row) * w.size(1) + window.column, window.columns, scratch + row * ld);
      return WindowRows{scratch, ld};
    };
  }
};

TEST_F(FusedTiledGemm, IsThatOfTheMatrix) {
  for (const std::int64_t count : {1, 2, 5, 64, 131})
    for (const std::int64_t rows : {2, 62, 64, 130, 514})
      for (const std::int64_t columns : {2, 64, 100, 320, 576}) {
        const Tensor w = random({rows, columns}), x = random({count, columns}), dy = random({count, rows});
        expect_close(tiled_gemm_nt(x, rows, windows_of(w)), at::mm(wide(x), wide(w).t()));
        expect_close(tiled_gemm_nn(dy, columns, windows_of(w)), at::mm(wide(dy), wide(w)));
      }
}

TEST_F(FusedTiledGemm, TakesAnOddNumberOfRowsOfTheMatrix) {
  const Tensor w = random({67, 128}), x = random({9, 128});
  expect_close(tiled_gemm_nt(x, 67, windows_of(w)), at::mm(wide(x), wide(w).t()));
}

TEST_F(FusedTiledGemm, OfCodesIsThatOfTheDequantizedMatrix) {
  for (const bool double_quant : {false, true})
    for (const std::int64_t rows : {64, 66, 67, 300})
      for (const std::int64_t columns : {64, 192, 1536, 100}) {
        const auto weight = quant::four_bit_weight(
            quant::quantize_4bit(random({rows, columns}), quant::FourBitType::kNf4, double_quant), "w");
        const Tensor x = random({7, columns}), dy = random({7, rows});
        const Tensor values = wide(weight->dequantize(torch::kBFloat16));
        expect_close(weight->matmul(x), at::mm(wide(x), values.t()));
        expect_close(weight->matmul_transposed(dy), at::mm(wide(dy), values));
      }
}

TEST_F(FusedTiledGemm, OfCodesByWindowsIsThatOfTheDequantizedMatrix) {
  for (const std::int64_t rows : {64, 66, 300})
    for (const std::int64_t columns : {64, 192, 832}) {
      const quant::FourBit codes =
          quant::quantize_4bit(random({rows, columns}), quant::FourBitType::kNf4, /*double_quant=*/false);
      const FourBitFormat format{quant::four_bit_table(codes.type), codes.block_size, codes.value_dtype};
      const MakeWindow windows = windows_4bit(codes.packed, codes.scales, 0, columns, format);
      ASSERT_TRUE(windows);
      const Tensor x = random({7, columns}), dy = random({7, rows}), values = wide(quant::dequantize(codes));
      expect_close(tiled_gemm_nt(x, rows, windows), at::mm(wide(x), values.t()));
      expect_close(tiled_gemm_nn(dy, columns, windows), at::mm(wide(dy), values));
    }
}

// Where products are widened, dense matrices and adapters go window by window as well, and are rounded alike whatever
// the number of rows.
TEST_F(FusedTiledGemm, OfDenseMatricesIsThatOfTheRoundedMatrix) {
  for (const std::int64_t count : {1, 2, 9, 130})
    for (const auto& [rows, columns] :
         {std::pair<std::int64_t, std::int64_t>{128, 128}, {16, 600}, {600, 16}, {130, 320}, {66, 100}, {7, 9}})
      for (const auto dtype : {torch::kBFloat16, torch::kFloat}) {
        const Tensor w = torch::randn({rows, columns}).to(dtype), values = wide(w.to(torch::kBFloat16));
        const Tensor x = random({count, columns}), dy = random({count, rows});
        expect_close(matmul_nt(x, w), at::mm(wide(x), values.t()));
        expect_close(matmul_nn(dy, w), at::mm(wide(dy), values));
      }
}

TEST_F(FusedTiledGemm, FactorsThatDoNotFitAreRefused) {
  const Tensor x = random({4, 64});
  EXPECT_THROW(matmul_nt(x, torch::randn({8, 66})), c10::Error);
  EXPECT_THROW(matmul_nn(x, torch::randn({66, 8})), c10::Error);
}

TEST_F(FusedTiledGemm, OfAnExpertStartsAtItsRows) {
  const auto weight =
      quant::four_bit_weight(quant::quantize_4bit(random({3, 10, 64}), quant::FourBitType::kFp4, true), "w");
  const Tensor x = random({4, 64}), dy = random({4, 10}), values = wide(weight->dequantize(torch::kBFloat16));
  for (const std::int64_t expert : {0, 1, 2}) {
    expect_close(weight->select(expert)->matmul(x), at::mm(wide(x), values[expert].t()));
    expect_close(weight->select(expert)->matmul_transposed(dy), at::mm(wide(dy), values[expert]));
  }
}

}  // namespace
}  // namespace bezel::kernels
