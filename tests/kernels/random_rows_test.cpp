#include "bezel/kernels/random_rows.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/counter_hash.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

Tensor keys(std::int64_t count) { return at::arange(count, at::kLong).mul(0x1234567).sub(99); }

// The hash by itself, one element at a time.
std::uint32_t bits_of(std::uint64_t key, std::int64_t row, std::uint32_t column) {
  const std::uint64_t mixed = mix64(static_cast<std::uint64_t>(row) ^ key);
  std::uint32_t x = column * 0x9E3779B1u + static_cast<std::uint32_t>(mixed);
  x = (x ^ x >> 16) * 0x85EBCA6Bu;
  x = ((x ^ x >> 13) + static_cast<std::uint32_t>(mixed >> 32)) * 0xC2B2AE35u;
  return x ^ x >> 16;
}

TEST(RandomRows, LoopsAndAtenGiveTheBitsOfTheHash) {
  const Tensor rows = keys(37);
  for (const std::uint64_t key : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}})
    for (const std::int64_t columns : {1, 15, 64, 1001}) {
      const Tensor bits = random_bits(key, rows, columns);
      for (std::int64_t n = 0; n < 37; n += 6)
        for (std::int64_t c = 0; c < columns; c += 7)
          ASSERT_EQ(bits[n][c].item<std::int64_t>(),
                    bits_of(key, rows[n].item<std::int64_t>(), static_cast<std::uint32_t>(c)));
      for (const double probability : {0.0, 0.05, 0.5, 0.999})
        ASSERT_TRUE(torch::equal(keep_mask(key, rows, columns, probability),
                                 bits.ge(static_cast<std::int64_t>(std::floor(probability * 0x1p32)))));
    }
}

TEST(RandomRows, AShareOfTheElementsIsDropped) {
  for (const double probability : {0.01, 0.1, 0.5, 0.9}) {
    const Tensor keep = keep_mask(3, keys(500), 2000, probability).to(torch::kDouble);
    const double sigma = std::sqrt(probability * (1 - probability));
    EXPECT_NEAR(keep.mean().item<double>(), 1 - probability, 5 * sigma / 1000.0) << probability;
    // Of rows and of columns as well: their means have the spread of independent elements.
    EXPECT_NEAR(keep.mean(1).std().item<double>(), sigma / std::sqrt(2000.0), 0.15 * sigma / std::sqrt(2000.0));
    EXPECT_NEAR(keep.mean(0).std().item<double>(), sigma / std::sqrt(500.0), 0.15 * sigma / std::sqrt(500.0));
  }
}

TEST(RandomRows, NeighborsInRowColumnAndKeyAreIndependent) {
  const auto signs = [](std::uint64_t key, std::int64_t shift) {
    return keep_mask(key, keys(400).add(shift), 1000, 0.5).to(torch::kDouble).mul(2).sub(1);
  };
  const Tensor first = signs(5, 0);
  const auto correlation = [](const Tensor& a, const Tensor& b) { return std::abs((a * b).mean().item<double>()); };
  const double limit = 5 / std::sqrt(400.0 * 1000.0);
  EXPECT_LT(correlation(first, signs(6, 0)), limit);
  EXPECT_LT(correlation(first, signs(5, 1)), limit);  // the next position of each
  for (const std::int64_t by : {1, 2, 16})
    EXPECT_LT(correlation(first.narrow(1, 0, 900), first.narrow(1, by, 900)), 1.1 * limit) << by;
}

TEST(RandomRows, UniformIsOfTheUnitInterval) {
  const Tensor values = uniform_rows(4, keys(300), 1000).to(torch::kDouble);
  EXPECT_GE(values.min().item<double>(), 0.0);
  EXPECT_LT(values.max().item<double>(), 1.0);
  EXPECT_NEAR(values.mean().item<double>(), 0.5, 5 / std::sqrt(12.0 * 300000.0));
  EXPECT_NEAR(values.square().mean().item<double>(), 1.0 / 3, 5 * 0.3 / std::sqrt(300000.0));
}

TEST(RandomRows, KeysAreThoseOfTheRowsWhateverElseIsInTheBatch) {
  const Tensor rows = keys(10), all = keep_mask(8, rows, 33, 0.3);
  EXPECT_TRUE(torch::equal(keep_mask(8, rows.narrow(0, 4, 3), 33, 0.3), all.narrow(0, 4, 3)));
  EXPECT_TRUE(torch::equal(keep_mask(8, rows, 20, 0.3), all.narrow(1, 0, 20)));
}

}  // namespace
}  // namespace bezel::kernels
