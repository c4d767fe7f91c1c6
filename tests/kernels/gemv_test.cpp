// Products with one row against the same in ATen's operators, at sizes that are no multiple of a vector's.
#include "bezel/kernels/gemv.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/dequantize.h"
#include "bezel/quant/four_bit.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

Tensor random(std::vector<std::int64_t> shape) { return torch::randn(shape).to(torch::kBFloat16); }

// Sums in another order, each rounded once: neighbors among bfloat16 at the size of the largest.
void expect_close(const Tensor& got, const Tensor& wanted) {
  ASSERT_EQ(got.scalar_type(), torch::kBFloat16);
  ASSERT_EQ(got.sizes(), wanted.sizes());
  const Tensor a = got.to(torch::kDouble), b = wanted.to(torch::kDouble);
  EXPECT_LE((a - b).abs().max().item<double>(), 8e-3 * std::max(b.abs().max().item<double>(), 1.0));
}

TEST(FusedGemv, IsThatOfTheMatrix) {
  torch::manual_seed(21);
  for (const std::int64_t rows : {1, 3, 4, 131})
    for (const std::int64_t columns : {1, 7, 30, 64, 100, 1536}) {
      const Tensor x = random({1, columns}), w = random({rows, columns});
      ASSERT_TRUE(has_gemv(x, w));
      expect_close(gemv(x, w), gemv_plain(x, w));
    }
}

TEST(FusedGemv, TakesNothingElse) {
  EXPECT_FALSE(has_gemv(random({2, 8}), random({3, 8})));
  EXPECT_FALSE(has_gemv(random({1, 8}), random({8, 3}).t()));
  EXPECT_FALSE(has_gemv(random({1, 8}).to(torch::kFloat), random({3, 8})));
}

TEST(FusedGemv, OfCodesIsThatOfTheDequantizedMatrix) {
  torch::manual_seed(22);
  for (const auto dtype : {torch::kBFloat16, torch::kFloat})
    for (const bool double_quant : {false, true})
      for (const std::int64_t columns : {64, 192, 1536}) {
        const Tensor matrix = torch::randn({67, columns}).to(dtype), x = random({1, columns});
        const auto weight =
            quant::four_bit_weight(quant::quantize_4bit(matrix, quant::FourBitType::kNf4, double_quant), "w");
        expect_close(weight->matmul(x), gemv_plain(x, weight->dequantize(torch::kBFloat16)));
      }
}

// Each element of a block by itself, which a place mistaken for another's would show.
TEST(FusedGemv, OfCodesTakesEachElementFromItsPlace) {
  torch::manual_seed(23);
  const Tensor matrix = torch::randn({5, 128}).to(torch::kBFloat16);
  const auto weight = quant::four_bit_weight(quant::quantize_4bit(matrix, quant::FourBitType::kNf4, true), "w");
  const Tensor values = weight->dequantize(torch::kBFloat16);
  for (std::int64_t i = 0; i < 128; ++i) {
    Tensor x = torch::zeros({1, 128}, torch::kBFloat16);
    x[0][i] = 1;
    EXPECT_TRUE(torch::equal(weight->matmul(x)[0], values.select(1, i))) << i;
  }
}

TEST(FusedGemv, OfAnExpertStartsAtItsRows) {
  torch::manual_seed(24);
  const Tensor stack = torch::randn({3, 10, 64}).to(torch::kBFloat16), x = random({1, 64});
  const auto weight = quant::four_bit_weight(quant::quantize_4bit(stack, quant::FourBitType::kNf4, true), "w");
  for (const std::int64_t expert : {0, 1, 2})
    expect_close(weight->select(expert)->matmul(x), gemv_plain(x, weight->dequantize(torch::kBFloat16)[expert]));
}

}  // namespace
}  // namespace bezel::kernels
