// Products whose matrix is made a window at a time, against the same in ATen's operators over the whole matrix.
#include "bezel/kernels/window_product.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/simd/functions.h"
#include "bezel/quant/four_bit.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

class WindowProduct : public testing::Test {
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
    return [w](const Window& window, simd::Bf16* room, std::int64_t ld) {
      for (std::int64_t row = 0; row < window.rows; ++row)
        std::copy_n(simd::bf16(w) + (window.row + row) * w.size(1) + window.column, window.columns, room + row * ld);
      return WindowRows{room, ld};
    };
  }
};

TEST_F(WindowProduct, IsThatOfTheMatrix) {
  for (const std::int64_t count : {1, 2, 5, 64, 131})
    for (const std::int64_t rows : {2, 62, 64, 130, 514})
      for (const std::int64_t columns : {2, 64, 100, 320, 576}) {
        const Tensor w = random({rows, columns}), x = random({count, columns}), dy = random({count, rows});
        expect_close(window_product_nt(x, rows, windows_of(w)), at::mm(wide(x), wide(w).t()));
        expect_close(window_product_nn(dy, columns, windows_of(w)), at::mm(wide(dy), wide(w)));
      }
}

TEST_F(WindowProduct, TakesAnOddNumberOfRowsOfTheMatrix) {
  const Tensor w = random({67, 128}), x = random({9, 128});
  expect_close(window_product_nt(x, 67, windows_of(w)), at::mm(wide(x), wide(w).t()));
}

TEST_F(WindowProduct, OfCodesIsThatOfTheDequantisedMatrix) {
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

TEST_F(WindowProduct, OfAnExpertStartsAtItsRows) {
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
