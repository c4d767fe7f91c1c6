#include "bezel/quant/packed.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/unpack.h"
#include "bezel/quant/pin.h"
#include "tests/support/temp_folder.h"

namespace bezel::quant {
namespace {

using io::GgufType;
using test::error_of;
using test::says;
using torch::Tensor;

constexpr GgufType kPacked[] = {GgufType::kQ4_0,   GgufType::kQ4_1,   GgufType::kQ5_0, GgufType::kQ5_1, GgufType::kQ8_0,
                                GgufType::kQ4_K,   GgufType::kQ5_K,   GgufType::kQ6_K, GgufType::kQ2_K, GgufType::kQ3_K,
                                GgufType::kIQ4_NL, GgufType::kIQ4_XS, GgufType::kMXFP4};

/// Where the float16 scales of a block lie.
std::vector<std::int64_t> scale_places(GgufType type) {
  if (type == GgufType::kQ6_K) return {208};
  if (type == GgufType::kQ2_K) return {80, 82};
  if (type == GgufType::kQ3_K) return {108};
  if (type == GgufType::kIQ4_NL || type == GgufType::kIQ4_XS) return {0};
  if (type == GgufType::kMXFP4) return {};  // a byte, an exponent
  if (type == GgufType::kQ4_0 || type == GgufType::kQ5_0 || type == GgufType::kQ8_0) return {0};
  return {0, 2};
}

/// Random blocks with scales of some size: [rows, bytes of a row]
Tensor random_rows(GgufType type, std::int64_t num_rows, std::int64_t columns) {
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  const std::int64_t blocks = columns / info.block_elements;
  Tensor rows = torch::randint(0, 256, {num_rows * blocks, info.block_bytes}, torch::kByte);
  for (const std::int64_t at : scale_places(type))
    rows.narrow(1, at, 2).copy_((torch::randn({num_rows * blocks, 1}) / 100).to(torch::kHalf).view(torch::kByte));
  if (type == GgufType::kMXFP4) rows.select(1, 0).copy_(torch::randint(115, 122, {num_rows * blocks}));
  return rows.view({num_rows, -1});
}

TEST(FusedUnpack, EqualsPlainBitForBit) {
  torch::manual_seed(5);
  for (const GgufType type : kPacked) {
    const Tensor rows = random_rows(type, 37, 512);
    for (const auto dtype : {torch::kFloat, torch::kBFloat16})
      EXPECT_TRUE(torch::equal(kernels::unpack(rows, type, dtype), kernels::unpack_plain(rows, type, dtype)))
          << io::gguf_type_info(type).name;
    const Tensor half = kernels::unpack(rows, type, torch::kHalf);  // no loop for it
    EXPECT_EQ(half.scalar_type(), torch::kHalf);
  }
}

TEST(FusedPackedProduct, IsTheProductWithTheValues) {
  torch::manual_seed(7);
  for (const GgufType type : kPacked) {
    const Tensor rows = random_rows(type, 301, 768), x = torch::randn({1, 768}).to(torch::kBFloat16);
    ASSERT_TRUE(kernels::has_packed_product(x, rows));
    const Tensor got = kernels::packed_product(x, rows, type).to(torch::kFloat);
    const Tensor want = x.to(torch::kFloat).mm(kernels::unpack_plain(rows, type, torch::kFloat).t());
    // Rounded to bfloat16 once: half a unit in the last of 8 bits.
    EXPECT_TRUE(torch::allclose(got, want, 1.0 / 256, 1e-3)) << io::gguf_type_info(type).name;
    EXPECT_TRUE(torch::equal(packed_weight(rows, type, {301, 768}, "w")->matmul(x).to(torch::kFloat), got));
  }
}

TEST(PackedWeight, ProductsAreThoseOfTheUnpackedMatrix) {
  torch::manual_seed(6);
  for (const GgufType type : kPacked) {
    const Tensor rows = random_rows(type, 4500, 512);  // more than one tile
    const auto weight = packed_weight(rows, type, {4500, 512}, "w");
    const Tensor dense = weight->dequantize(torch::kFloat);
    const Tensor x = torch::randn({4, 512}), dy = torch::randn({4, 4500});
    EXPECT_TRUE(torch::allclose(weight->matmul(x), x.mm(dense.t()), 1e-4, 1e-3));
    EXPECT_TRUE(torch::allclose(weight->matmul_transposed(dy), dy.mm(dense), 1e-4, 1e-2));
    const Tensor index = torch::tensor({3, 0, 4499, 3});
    EXPECT_TRUE(torch::equal(weight->rows(index, torch::kFloat), dense.index_select(0, index)));
    EXPECT_EQ(weight->storage(), io::gguf_type_info(type).name);
    EXPECT_EQ(weight->bytes(), rows.numel());
  }
}

TEST(PackedWeight, OneExpertOfAStackIsThatMatrix) {
  const auto weight = packed_weight(random_rows(GgufType::kQ4_0, 30, 64), GgufType::kQ4_0, {3, 10, 64}, "w");
  const Tensor dense = weight->dequantize(torch::kFloat);
  for (const std::int64_t expert : {0, 1, 2})
    EXPECT_TRUE(torch::equal(weight->select(expert)->dequantize(torch::kFloat), dense[expert]));
}

TEST(PackedWeight, AScaleThatIsNoNumberIsNamedWhenItIsUsed) {
  for (const GgufType type : kPacked)
    for (const std::int64_t place : scale_places(type))
      for (const std::uint8_t upper : {0x7c, 0x7e, 0xfc}) {  // Inf, NaN, -Inf
        Tensor rows = random_rows(type, 3, 256);
        rows.index_put_({2, place}, 0);
        rows.index_put_({2, place + 1}, upper);
        const auto weight = packed_weight(rows, type, {3, 256}, "blk.0.attn_q.weight");
        const Tensor x = torch::randn({1, 256});
        EXPECT_TRUE(says(error_of([&] { weight->matmul(x); }), "'blk.0.attn_q.weight': holds a scale"));
        EXPECT_EQ(error_of([&] { weight->rows(torch::tensor({0, 1}), torch::kFloat); }), "");
        EXPECT_TRUE(says(error_of([&] { weight->rows(torch::tensor({2}), torch::kFloat); }), "looked up"));
      }
}

TEST(PackedWeight, AnExponentBeyondFloatIsNamedWhenItIsUsed) {
  for (const int exponent : {253, 255}) {
    Tensor rows = random_rows(GgufType::kMXFP4, 3, 64);
    rows.index_put_({1, 0}, exponent);
    const auto weight = packed_weight(rows, GgufType::kMXFP4, {3, 64}, "blk.0.attn_q.weight");
    EXPECT_TRUE(says(error_of([&] { weight->matmul(torch::randn({1, 64})); }), "'blk.0.attn_q.weight': holds a scale"));
  }
}

TEST(PackedWeight, PinnedIsTheSameMatrixUntilThePinEnds) {
  torch::manual_seed(11);
  const Tensor x = torch::randn({1, 1024}).to(torch::kBFloat16);
  const auto weight = packed_weight(random_rows(GgufType::kQ8_0, 1024, 1024), GgufType::kQ8_0, {1024, 1024}, "w");
  const Tensor product = weight->matmul(x), values = weight->dequantize(torch::kFloat);
  const auto is_same = [&] {
    return torch::equal(weight->matmul(x), product) && torch::equal(weight->dequantize(torch::kFloat), values);
  };
  {
    const Pin outer(weight);
    { const Pin inner(weight); }
    EXPECT_TRUE(is_same());
  }
  EXPECT_TRUE(is_same());
}

}  // namespace
}  // namespace bezel::quant
