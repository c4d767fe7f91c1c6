// The vectorized loops over bfloat16 against their twins in ATen's operators in float32, at sizes that are no multiple
// of a vector's.
#include <array>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/kernels/cross_entropy.h"
#include "bezel/kernels/geglu.h"
#include "bezel/kernels/low_rank.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/rope.h"
#include "bezel/kernels/silu.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

class Fused : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(11); }

  Tensor random(std::vector<std::int64_t> shape, double scale = 1.0) const {
    return (torch::randn(shape) * scale).to(torch::kBFloat16);
  }

  // Within two roundings to bfloat16 at the size of the largest element.
  void expect_close(const Tensor& got, const Tensor& wanted) const {
    ASSERT_EQ(got.scalar_type(), wanted.scalar_type());
    ASSERT_EQ(got.sizes(), wanted.sizes());
    const Tensor a = got.to(torch::kDouble), b = wanted.to(torch::kDouble);
    const double worst = (a - b).abs().max().item<double>(), scale = b.abs().max().item<double>();
    EXPECT_LE(worst, 1e-2 * std::max(scale, 1.0));
  }
};

TEST_F(Fused, RmsNormAndItsGradient) {
  for (const std::int64_t columns : {1, 7, 64, 100, 1536}) {
    const Tensor x = random({5, columns}), dy = random({5, columns}), residual = random({5, columns});
    for (const Tensor& weight : {Tensor(), torch::randn({columns})})
      for (const Tensor& added : {Tensor(), residual}) {
        const Normed got = rms_norm(x, weight, added, 1e-6);
        const Normed wanted = rms_norm_plain(x.to(torch::kFloat), weight, added, 1e-6);
        expect_close(got.y, wanted.y.to(torch::kBFloat16));
        EXPECT_TRUE(torch::allclose(got.inverse, wanted.inverse, 1e-5, 1e-7));
        expect_close(rms_norm_backward(x, weight, got.inverse, dy),
                     rms_norm_backward_plain(x.to(torch::kFloat), weight, wanted.inverse, dy.to(torch::kFloat))
                         .to(torch::kBFloat16));
      }
  }
}

TEST_F(Fused, GegluAndItsGradients) {
  const Tensor gate = random({3, 77}, 4.0), up = random({3, 77}), dy = random({3, 77});
  const auto wide = [](const Tensor& t) { return t.to(torch::kFloat); };
  expect_close(geglu(gate, up), geglu_plain(wide(gate), wide(up)).to(torch::kBFloat16));
  const auto [dgate, dup] = geglu_backward(gate, up, dy);
  const auto [wanted_gate, wanted_up] = geglu_backward_plain(wide(gate), wide(up), wide(dy));
  expect_close(dgate, wanted_gate.to(torch::kBFloat16));
  expect_close(dup, wanted_up.to(torch::kBFloat16));
}

TEST_F(Fused, GegluOfHugeNumbersIsNoNan) {
  const Tensor gate = torch::tensor({-1e4f, -50.0f, 0.0f, 50.0f, 1e4f}).to(torch::kBFloat16);
  expect_close(geglu(gate, torch::ones({5}).to(torch::kBFloat16)), at::relu(gate));
}

TEST_F(Fused, SiluAndItsGradient) {
  const Tensor x = random({3, 77}, 4.0), dy = random({3, 77});
  const auto wide = [](const Tensor& t) { return t.to(torch::kFloat); };
  expect_close(kernels::silu(x), at::silu(wide(x)).to(torch::kBFloat16));
  expect_close(kernels::silu_backward(x, dy), at::silu_backward(wide(dy), wide(x)).to(torch::kBFloat16));
  const Tensor huge = torch::tensor({-1e4f, -50.0f, 0.0f, 50.0f, 1e4f}).to(torch::kBFloat16);
  expect_close(kernels::silu(huge), at::relu(huge));
}

TEST_F(Fused, RotateAndItsInverse) {
  for (const std::int64_t groups : {1, 2}) {
    const Tensor x = random({6, 4, 10}), angles = torch::randn({3, groups, 5}) * 3;
    const Tensor both = at::cat({angles, angles}, -1);
    const Tensor cos = both.cos().to(torch::kBFloat16), sin = both.sin().to(torch::kBFloat16);
    const auto wide = [](const Tensor& t) { return t.to(torch::kFloat); };
    for (const bool back : {false, true})
      expect_close(apply_rope(x, cos, sin, back),
                   apply_rope_plain(wide(x), wide(cos), wide(sin), back).to(torch::kBFloat16));
  }
}

TEST_F(Fused, LowRankWithEachEnding) {
  for (const std::int64_t columns : {1, 31, 64, 128, 200}) {
    const Tensor start = random({9, columns}), gate = random({9, columns}), dy = random({9, columns});
    for (const LowRank& term :
         {LowRank{}, LowRank{torch::randn({9, 3}), torch::randn({3, columns})},
          LowRank{torch::randn({9, 16}) / 4, torch::randn({columns, 16}).t()},  // as an adapter's B lies
          LowRank{torch::randn({9, 66}) / 8, torch::randn({columns, 66}).t()}}) {
      Tensor got = start.clone(), wanted = start.clone();
      const Tensor inside = clamp_low_rank(got, term, {-0.75, 0.5}, true);
      const Tensor wanted_inside = clamp_low_rank_plain(wanted, term, {-0.75, 0.5}, true);
      expect_close(got, wanted);
      EXPECT_LE(got.max().item<float>(), 0.5f);
      EXPECT_GE(got.min().item<float>(), -0.75f);
      // Where a sum lies at a bound to the last bit, its rounding decides.
      EXPECT_LE((where_inside(dy, inside) != dy.mul(wanted_inside)).sum().item<int>(), term.h.defined() ? 1 : 0);
      got = start.clone(), wanted = start.clone();
      gate_low_rank(got, term, gate, {-0.75, 0.5});
      gate_low_rank_plain(wanted, term, gate, {-0.75, 0.5});
      expect_close(got, wanted);
    }
  }
}

TEST_F(Fused, AValueAtABoundPasses) {
  Tensor y = torch::tensor({{-0.75f, 0.5f, 0.5625f, -1.0f}}).to(torch::kBFloat16);
  const Tensor inside = clamp_low_rank(y, {}, {-0.75, 0.5}, true);
  EXPECT_TRUE(where_inside(torch::ones({1, 4}).to(torch::kBFloat16), inside)
                  .equal(torch::tensor({{1.0f, 1.0f, 0.0f, 0.0f}}).to(torch::kBFloat16)));
}

TEST_F(Fused, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = torch::full({2, 5}, nan).to(torch::kBFloat16);
  EXPECT_TRUE(rms_norm(x, {}, {}, 1e-6).y.isnan().all().item<bool>());
  EXPECT_TRUE(geglu(x, x).isnan().all().item<bool>());
  Tensor y = x.clone();
  clamp_low_rank(y, {}, {-1.0, 1.0}, false);
  EXPECT_TRUE(y.isnan().all().item<bool>()) << "as ATen's clamp";
}

TEST_F(Fused, ProductOfPairs) {
  for (const auto& [rows, columns, inner] : {std::array<std::int64_t, 3>{4, 16, 2}, {12, 48, 10}, {8, 112, 66}}) {
    const Tensor a = random({rows, inner}), b = random({inner, columns});
    const Tensor pairs = b.view({inner / 2, 2, columns}).transpose(1, 2).contiguous();
    Tensor c = torch::randn({rows, columns});
    const Tensor wanted = at::mm(a.to(torch::kFloat), b.to(torch::kFloat));
    for (const bool add : {false, true}) {
      const Tensor expected = add ? wanted + c : wanted;
      simd::products().product(
          {simd::bf16(a), simd::bf16(pairs), c.data_ptr<float>(), rows, columns, inner, inner, columns, columns, add});
      EXPECT_TRUE(torch::allclose(c, expected, 1e-5, 1e-4)) << rows << " " << columns << " " << inner;
    }
  }
}

TEST_F(Fused, CrossEntropyAndItsGradient) {
  for (const double cap : {0.0, 3.0})
    for (const std::int64_t columns : {3, 70, 9000}) {
      const Tensor logits = random({4, columns}, 5.0), labels = torch::randint(0, columns, {4});
      Tensor got = logits.clone(), wanted = logits.to(torch::kFloat, /*non_blocking=*/false, /*copy=*/true);
      const double loss = cross_entropy(got, labels, cap, true).item<double>();
      const double wanted_loss = cross_entropy_plain(wanted, labels, cap, true).item<double>();
      EXPECT_NEAR(loss, wanted_loss, 1e-5 * std::abs(wanted_loss));
      expect_close(got, wanted.to(torch::kBFloat16));
      Tensor again = logits.clone();
      EXPECT_EQ(cross_entropy(again, labels, cap, false).item<double>(), loss);
    }
}

}  // namespace
}  // namespace bezel::kernels
