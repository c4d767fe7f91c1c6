// Products with one row against the same in ATen's operators, at sizes that are no multiple of a vector's.
#include "bezel/kernels/gemv.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/dequantize.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"

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

// x times code * scale * factor, in double.
Tensor int8_product(const Tensor& x, const Tensor& codes, const Tensor& scales, float factor) {
  const Tensor matrix =
      codes.to(torch::kDouble) * scales.to(torch::kDouble).view({-1, 1}) * static_cast<double>(factor);
  return x.to(torch::kDouble).mm(matrix.t());
}

TEST(FusedGemv, OfInt8CodesIsTheProductInDouble) {
  torch::manual_seed(25);
  for (const std::int64_t rows : {1, 3, 67})
    for (const std::int64_t columns : {64, 192, 1536}) {
      const Tensor x = random({1, columns}), codes = torch::randint(-128, 128, {rows, columns}, torch::kChar);
      const Tensor scales = torch::rand({rows, 1}) + 0.1;
      ASSERT_TRUE(has_gemv_int8(x, codes));
      const Tensor got = gemv_int8(x, codes, scales, 0.01f).to(torch::kDouble);
      const Tensor wanted = int8_product(x, codes, scales, 0.01f);
      // Half a step of bfloat16, and what the sum in float32 leaves of terms of up to 256 |x|.
      const double most =
          (256 * x.to(torch::kDouble).abs().sum() * scales.max().to(torch::kDouble) * 0.01).item<double>();
      EXPECT_TRUE(((got - wanted).abs() <= wanted.abs() / 256 + 1e-6 * most).all().item<bool>()) << rows << columns;
    }
}

TEST(FusedGemv, OfInt8CodesTakesEachElementFromItsPlace) {
  torch::manual_seed(26);
  const Tensor matrix = torch::randn({5, 128}).to(torch::kBFloat16);
  const auto weight = quant::integer_weight(quant::quantize_int8(matrix), "w");
  const Tensor values = weight->dequantize(torch::kBFloat16);
  for (std::int64_t i = 0; i < 128; ++i) {
    Tensor x = torch::zeros({1, 128}, torch::kBFloat16);
    x[0][i] = 1;
    EXPECT_TRUE(torch::equal(weight->matmul(x)[0], values.select(1, i))) << i;
  }
}

TEST(FusedGemv, OfInt8CodesTakesEveryCode) {
  const Tensor codes = torch::arange(-128, 128).to(torch::kChar).view({256, 1}).expand({256, 64}).contiguous();
  Tensor x = torch::zeros({1, 64}, torch::kBFloat16);
  x[0][63] = 1;
  EXPECT_TRUE(torch::equal(gemv_int8(x, codes, torch::ones({256}), 1.0f)[0], torch::arange(-128, 128).to(x.dtype())));
}

TEST(FusedGemv, OfInt8CodesTakesNothingElse) {
  const Tensor codes = torch::zeros({3, 128}, torch::kChar);
  EXPECT_FALSE(has_gemv_int8(random({2, 128}), codes));
  EXPECT_FALSE(has_gemv_int8(random({1, 100}), torch::zeros({3, 100}, torch::kChar)));
  EXPECT_FALSE(has_gemv_int8(random({1, 128}).to(torch::kFloat), codes));
  EXPECT_FALSE(has_gemv_int8(random({1, 128}), codes.to(torch::kByte)));
}

// Of scales of groups and codes with an offset there is no such product: rows are made then.
TEST(FusedGemv, OfOtherWholeNumbersIsThatOfTheDequantizedMatrix) {
  torch::manual_seed(27);
  const Tensor x = random({1, 128}), codes = torch::randint(0, 256, {6, 128}, torch::kByte);
  const auto grouped = quant::integer_weight({.shape = {6, 128},
                                              .group_size = 64,
                                              .codes = codes.to(torch::kChar),
                                              .scales = torch::rand({6, 2}),
                                              .value_dtype = torch::kBFloat16},
                                             "w");
  const auto offset = quant::integer_weight(
      {.shape = {6, 128}, .group_size = 128, .zero = 128, .codes = codes, .scales = torch::rand({6, 1})}, "w");
  for (const auto& weight : {grouped, offset})
    expect_close(weight->matmul(x), gemv_plain(x, weight->dequantize(torch::kBFloat16)));
}

TEST(FusedGemv, OfAnExpertStartsAtItsRows) {
  torch::manual_seed(24);
  const Tensor stack = torch::randn({3, 10, 64}).to(torch::kBFloat16), x = random({1, 64});
  const auto weight = quant::four_bit_weight(quant::quantize_4bit(stack, quant::FourBitType::kNf4, true), "w");
  for (const std::int64_t expert : {0, 1, 2})
    expect_close(weight->select(expert)->matmul(x), gemv_plain(x, weight->dequantize(torch::kBFloat16)[expert]));
  const auto whole = quant::integer_weight(quant::quantize_int8(stack), "w");
  for (const std::int64_t expert : {0, 1, 2})
    expect_close(whole->select(expert)->matmul(x), gemv_plain(x, whole->dequantize(torch::kBFloat16)[expert]));
}

}  // namespace
}  // namespace bezel::kernels
