#include "bezel/nn/functional.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/nn/rope.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

TEST(RmsNorm, EqualsTheFormulaWithGradients) {
  torch::manual_seed(2);
  const Tensor weight = torch::randn({6}), dy = torch::randn({3, 6});
  for (const bool scaled : {false, true}) {
    const Tensor x1 = torch::randn({3, 6}).requires_grad_(), x2 = x1.detach().clone().requires_grad_();
    const Tensor y1 = rms_norm(x1, scaled ? weight : Tensor(), 1e-6);
    Tensor y2 = x2 * torch::rsqrt(x2.square().mean(-1, true) + 1e-6);
    if (scaled) y2 = y2 * weight;
    EXPECT_TRUE(torch::allclose(y1, y2, 1e-5, 1e-6));
    y1.backward(dy);
    y2.backward(dy);
    EXPECT_TRUE(torch::allclose(x1.grad(), x2.grad(), 1e-4, 1e-6));
  }
}

TEST(Geglu, EqualsTheFormulaWithGradients) {
  torch::manual_seed(2);
  const Tensor g1 = torch::randn({4, 5}).requires_grad_(), u1 = torch::randn({4, 5}).requires_grad_();
  const Tensor g2 = g1.detach().clone().requires_grad_(), u2 = u1.detach().clone().requires_grad_();
  const Tensor dy = torch::randn({4, 5});
  const Tensor y1 = geglu(g1, u1), y2 = torch::gelu(g2, "tanh") * u2;
  EXPECT_TRUE(torch::allclose(y1, y2));
  y1.backward(dy);
  y2.backward(dy);
  EXPECT_TRUE(torch::allclose(g1.grad(), g2.grad(), 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(u1.grad(), u2.grad(), 1e-5, 1e-6));
}

TEST(Rope, PositionZeroIsIdentity) {
  const Tensor x = torch::randn({1, 1, 2, 8});
  const auto by = rope_table(torch::zeros({1, 1}, at::kLong), inverse_frequencies(8, 1e4, 1.0), torch::kFloat);
  EXPECT_TRUE(torch::allclose(apply_rope(x, by), x));
}

TEST(Rope, ScoresDependOnTheDistanceOnly) {
  const Tensor q = torch::randn({1, 1, 1, 8}), k = torch::randn({1, 1, 1, 8});
  const auto score = [&](std::int64_t at_q, std::int64_t at_k) {
    const Tensor f = inverse_frequencies(8, 1e4, 1.0);
    const auto turn = [&](const Tensor& x, std::int64_t p) {
      return apply_rope(x, rope_table(torch::full({1, 1}, p, at::kLong), f, torch::kFloat));
    };
    return (turn(q, at_q) * turn(k, at_k)).sum().item<double>();
  };
  EXPECT_NEAR(score(5, 2), score(105, 102), 1e-4);
  EXPECT_GT(std::abs(score(5, 2) - score(5, 4)), 1e-4);
}

TEST(Rope, ProportionalLeavesTheRestUnrotated) {
  const Tensor f = inverse_frequencies(16, 1e6, 0.25);
  ASSERT_EQ(f.size(0), 8);
  EXPECT_EQ(f[0].item<float>(), 1.0f);
  EXPECT_NEAR(f[1].item<float>(), std::pow(1e6, -2.0 / 16.0), 1e-6);
  EXPECT_TRUE((f.narrow(0, 2, 6) == 0).all().item<bool>());
}

}  // namespace
}  // namespace bezel::nn
