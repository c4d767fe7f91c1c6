#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/kernels/dequantize.h"
#include "bezel/kernels/quantize.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"
#include "bezel/quant/pin.h"
#include "support/temp_folder.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

TEST(Dequantize4bit, FastEqualsPlainBitForBit) {
  torch::manual_seed(3);
  const Tensor packed = torch::randint(0, 256, {100}, torch::kByte), scales = torch::rand({4});
  for (const auto value : {torch::kFloat, torch::kBFloat16, torch::kHalf})
    for (const auto dtype : {torch::kFloat, torch::kBFloat16})
      for (const auto& [first, count] :
           {std::pair<std::int64_t, std::int64_t>{0, 200}, {64, 64}, {63, 5}, {1, 199}, {130, 1}}) {
        const kernels::FourBitFormat format{four_bit_table(FourBitType::kNf4), 64, value};
        const Tensor part = scales.narrow(0, first / 64, (first + count + 63) / 64 - first / 64);
        EXPECT_TRUE(torch::equal(kernels::dequantize_4bit(packed, part, first, count, format, dtype),
                                 kernels::dequantize_4bit_plain(packed, part, first, count, format, dtype)))
            << first << ", " << count;
      }
}

TEST(Dequantize4bit, WholeBlocksEqualPlainBitForBit) {
  torch::manual_seed(3);
  const Tensor packed = torch::randint(0, 256, {6 * 192}, torch::kByte), scales = torch::rand({72});
  for (const std::int64_t block : {32, 64, 192, 384}) {  // those of 64 are looked up by wider instructions
    const kernels::FourBitFormat format{four_bit_table(FourBitType::kFp4), block, torch::kBFloat16};
    const std::int64_t first = 384, count = 1152, first_block = first / block;
    const Tensor part = scales.narrow(0, first_block, count / block);
    EXPECT_TRUE(torch::equal(kernels::dequantize_4bit(packed, part, first, count, format, torch::kBFloat16),
                             kernels::dequantize_4bit_plain(packed, part, first, count, format, torch::kBFloat16)))
        << block;
  }
}

TEST(Dequantize4bit, CodesOfWholeBlocksAreThoseOfThePlainForm) {
  torch::manual_seed(6);
  const Tensor sorted = std::get<0>(four_bit_table(FourBitType::kNf4).sort());
  const Tensor bounds = (sorted.slice(0, 0, -1) + sorted.slice(0, 1)) / 2;
  const Tensor order = torch::randperm(16).to(torch::kByte);
  // Plain, huge, tiny, zero and constant blocks, values that lie on a bound, and signed zeros.
  Tensor x = torch::randn({40, 64});
  x[1] *= 1e30;
  x[2] *= 1e-37;
  x[3].zero_();
  x[4].fill_(-0.37);
  x[5].narrow(0, 0, 15).copy_(bounds);
  x[5][20] = 1.0;
  x[6].fill_(-0.0);
  for (const std::int64_t block : {32, 64, 128, 160}) {
    const Tensor flat = x.flatten();
    const kernels::FourBitCodes got = kernels::quantize_4bit(flat, block, bounds, order);
    const kernels::FourBitCodes wanted = kernels::quantize_4bit_plain(flat, block, bounds, order);
    EXPECT_TRUE(torch::equal(got.scales, wanted.scales)) << block;
    EXPECT_TRUE(torch::equal(got.packed, wanted.packed)) << block;
  }
  x[7][3] = NAN;
  EXPECT_TRUE(kernels::quantize_4bit(x.flatten(), 64, bounds, order).scales[7].isnan().item<bool>());
}

TEST(DenseWeight, PinnedIsTheSameMatrixInMemoryUntilTheLastPinEnds) {
  torch::manual_seed(8);
  const test::TempFolder folder;
  const Tensor matrix = torch::randn({2048, 1536}).to(torch::kBFloat16);
  io::save_safetensors(folder / "w", {{"w", matrix}});
  const auto weight = dense_weight(io::load_safetensors(folder / "w").at("w"), "w");
  const Tensor x = torch::randn({1, 1536}).to(torch::kBFloat16), before = weight->matmul(x);
  EXPECT_TRUE(io::is_mapped(weight->dequantize(torch::kBFloat16)));
  {
    const Pin outer(weight);
    {
      std::vector<Pin> inner;
      inner.emplace_back(weight);
      inner.reserve(16);  // moves it
    }
    EXPECT_FALSE(io::is_mapped(weight->dequantize(torch::kBFloat16)));
    EXPECT_TRUE(torch::equal(weight->dequantize(torch::kBFloat16), matrix));
    EXPECT_TRUE(torch::equal(weight->matmul(x), before));
  }
  EXPECT_TRUE(io::is_mapped(weight->dequantize(torch::kBFloat16)));
  EXPECT_TRUE(torch::equal(weight->matmul(x), before));
}

std::vector<std::shared_ptr<const Weight>> every_storage(const Tensor& matrix) {
  return {four_bit_weight(quantize_4bit(matrix, FourBitType::kNf4, false), "w"),
          four_bit_weight(quantize_4bit(matrix, FourBitType::kNf4, true), "w"),
          four_bit_weight(quantize_4bit(matrix, FourBitType::kFp4, true), "w"),
          integer_weight(quantize_int8(matrix), "w")};
}

// Codes of the same matrix over a mapped file and in memory of their own.
std::vector<std::shared_ptr<const Weight>> mapped_and_own(const Tensor& matrix, const std::string& file) {
  FourBit four_bit = quantize_4bit(matrix, FourBitType::kNf4, true);
  IntegerMatrix integer = quantize_int8(matrix);
  const std::vector<std::shared_ptr<const Weight>> own{four_bit_weight(four_bit, "w"), integer_weight(integer, "w")};
  io::save_safetensors(file, {{"four_bit", four_bit.packed}, {"integer", integer.codes}});
  const auto mapped = io::load_safetensors(file);
  four_bit.packed = mapped.at("four_bit");
  integer.codes = mapped.at("integer");
  return {own[0], own[1], four_bit_weight(four_bit, "w"), integer_weight(integer, "w")};
}

TEST(QuantizedWeight, PinnedIsTheSameMatrixUntilTheLastPinEnds) {
  torch::manual_seed(9);
  const test::TempFolder folder;
  const Tensor matrix = torch::randn({2048, 1536}).to(torch::kBFloat16), index = torch::tensor({2047, 3});
  const Tensor x = torch::randn({1, 1536}).to(torch::kBFloat16), rows = torch::randn({3, 1536}).to(torch::kBFloat16);
  for (const auto& weight : mapped_and_own(matrix, folder / "w")) {
    const auto all = [&] {
      return std::vector<Tensor>{weight->matmul(x), weight->matmul(rows), weight->rows(index, torch::kFloat),
                                 weight->dequantize(torch::kBFloat16)};
    };
    const std::vector<Tensor> before = all();
    const auto expect_same = [&] {
      const std::vector<Tensor> now = all();
      for (std::size_t i = 0; i < now.size(); ++i) EXPECT_TRUE(torch::equal(now[i], before[i])) << i;
    };
    const std::int64_t bytes = weight->bytes(), blocks = matrix.numel() / 64;
    {
      const Pin outer(weight);
      { const Pin inner(weight); }
      expect_same();
      // The scales of 4-bit codes are in float32, in place of a byte each and four for 256 of them.
      const std::int64_t more = weight->storage() == "nf4" ? 4 * blocks - blocks - 4 * blocks / 256 : 0;
      EXPECT_EQ(weight->bytes(), bytes + more);
    }
    expect_same();
    EXPECT_EQ(weight->bytes(), bytes);
  }
}

TEST(QuantizedWeight, ProductsAreThoseOfTheDequantizedMatrix) {
  torch::manual_seed(4);
  // Rows that no block ends with, and more of them than one tile holds.
  for (const auto& matrix :
       {torch::randn({5, 7}), torch::randn({3000, 750}), torch::randn({33, 130}).to(torch::kBFloat16)})
    for (const auto& weight : every_storage(matrix)) {
      const Tensor dense = weight->dequantize(torch::kFloat);
      const Tensor x = torch::randn({4, matrix.size(1)}), dy = torch::randn({4, matrix.size(0)});
      EXPECT_TRUE(torch::allclose(weight->matmul(x), x.mm(dense.t()), 1e-4, 1e-3));
      EXPECT_TRUE(torch::allclose(weight->matmul_transposed(dy), dy.mm(dense), 1e-4, 1e-3));
      const Tensor index = torch::tensor({3, 0, 3});
      EXPECT_TRUE(torch::equal(weight->rows(index, torch::kFloat), dense.index_select(0, index)));
      EXPECT_LT((dense - matrix.to(torch::kFloat)).norm().item<double>(),
                0.2 * matrix.to(torch::kFloat).norm().item<double>());
      EXPECT_EQ(weight->matmul(x.to(torch::kBFloat16)).scalar_type(), torch::kBFloat16);
    }
}

TEST(QuantizedWeight, OneExpertOfAStackIsThatMatrix) {
  const Tensor stack = torch::randn({3, 10, 24});  // 240 elements each: blocks cross from one expert to the next
  for (const auto& weight : every_storage(stack)) {
    const Tensor dense = weight->dequantize(torch::kFloat);
    EXPECT_EQ(dense.sizes(), stack.sizes());
    for (const std::int64_t expert : {0, 1, 2})
      EXPECT_TRUE(torch::equal(weight->select(expert)->dequantize(torch::kFloat), dense[expert]));
  }
}

TEST(QuantizedWeight, CodesTakeFourOrEightBits) {
  const Tensor matrix = torch::randn({64, 1024}).to(torch::kBFloat16);
  const std::int64_t elements = matrix.numel();
  const auto weights = every_storage(matrix);
  EXPECT_EQ(weights[0]->bytes(), elements / 2 + elements / 64 * 4);
  EXPECT_EQ(weights[1]->bytes(), elements / 2 + elements / 64 + elements / 64 / 256 * 4);
  EXPECT_EQ(weights[3]->bytes(), elements + 64 * 4);
}

TEST(QuantizedWeight, RefusesCodesOfAnotherSizeAndScalesThatAreNoNumbers) {
  const Tensor matrix = torch::randn({8, 64});
  FourBit four = quantize_4bit(matrix, FourBitType::kNf4, false);
  four.packed = four.packed.slice(0, 1);
  EXPECT_THROW(four_bit_weight(four, "w"), Error);
  four = quantize_4bit(matrix, FourBitType::kNf4, false);
  four.scales = four.scales.slice(0, 1);
  EXPECT_THROW(four_bit_weight(four, "w"), Error);
  EXPECT_THROW(four_bit_weight(quantize_4bit(matrix * NAN, FourBitType::kNf4, true), "w"), Error);
  EXPECT_THROW(integer_weight(quantize_int8(matrix * NAN), "w"), Error);
  IntegerMatrix eight = quantize_int8(matrix);
  eight.scales = eight.scales.slice(0, 1);
  EXPECT_THROW(integer_weight(eight, "w"), Error);
}

}  // namespace
}  // namespace bezel::quant
