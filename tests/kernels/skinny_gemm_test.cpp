#include "bezel/kernels/skinny_gemm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace bezel::kernels {
namespace {

using torch::Tensor;

Tensor wide(const Tensor& x) { return x.to(torch::kBFloat16).to(torch::kFloat); }

// Sizes at which rows, columns and the sum end within a group, and ranks of several panels.
class SkinnyGemm : public ::testing::TestWithParam<std::array<std::int64_t, 3>> {
 protected:
  void SetUp() override {
    torch::manual_seed(11);
    if (!has_skinny_gemm(torch::zeros({4, 2}).to(torch::kBFloat16), 1))
      GTEST_SKIP() << "no products of bfloat16 on this processor, or tile units";
  }
};

TEST_P(SkinnyGemm, IsThatOfAten) {
  const auto [rows, inner, rank] = GetParam();
  const Tensor x = torch::randn({rows, inner}).to(torch::kBFloat16), by_rows = torch::randn({inner, rank});
  const Tensor by_columns = torch::randn({rank, inner}).t();
  for (const Tensor& w : {by_rows, by_columns}) {
    const Tensor wanted = at::mm(wide(x), wide(w));
    const Tensor got = skinny_gemm(x, w);
    EXPECT_EQ(got.scalar_type(), torch::kBFloat16);
    EXPECT_TRUE(at::allclose(got.to(torch::kFloat), wanted, 1e-2, 1e-3));
  }
}

TEST_P(SkinnyGemm, OfATransposeIsThatOfAten) {
  const auto [rows, columns, rank] = GetParam();
  const Tensor x = torch::randn({rows, columns}).to(torch::kBFloat16),
               h = torch::randn({rows, rank}).to(torch::kBFloat16);
  const Tensor wanted = at::mm(wide(x).t(), wide(h));
  const Tensor tall = skinny_gemm_tn(x, h), flat = skinny_gemm_tn(h, x);
  EXPECT_EQ(tall.scalar_type(), torch::kFloat);
  EXPECT_TRUE(at::allclose(tall, wanted, 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(flat, wanted.t(), 1e-4, 1e-4));
  EXPECT_TRUE(tall.is_contiguous() && flat.is_contiguous());
}

INSTANTIATE_TEST_SUITE_P(Sizes, SkinnyGemm,
                         ::testing::Values(std::array<std::int64_t, 3>{1, 2, 1}, std::array<std::int64_t, 3>{3, 66, 5},
                                           std::array<std::int64_t, 3>{9, 130, 16},
                                           std::array<std::int64_t, 3>{31, 64, 48},
                                           std::array<std::int64_t, 3>{300, 200, 32},
                                           std::array<std::int64_t, 3>{514, 96, 100},
                                           std::array<std::int64_t, 3>{12, 320, 256}));

}  // namespace
}  // namespace bezel::kernels
