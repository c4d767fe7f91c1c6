#include <array>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bezel/kernels/gated_conv.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/local_attention.h"
#include "support/relative_error.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

struct Shape {
  std::int64_t frames, heads, columns, chunk, before, after, distances;
  double cap;
};

std::vector<Tensor> leaves(const ChunkedHeads& heads, torch::ScalarType dtype) {
  std::vector<Tensor> all;
  for (const Tensor& x : {heads.q, heads.k, heads.v, heads.relative})
    all.push_back(x.to(dtype).detach().requires_grad_(true));
  return all;
}

class LocalAttention : public ::testing::TestWithParam<Shape> {};

// The loops in bfloat16 against ATen's operators in float32, from the same values.
TEST_P(LocalAttention, AndItsGradientsAreThoseOfTheFormula) {
  torch::manual_seed(3);
  const Shape s = GetParam();
  const std::int64_t chunks = (s.frames + s.chunk - 1) / s.chunk, context = s.chunk + s.before + s.after;
  const auto heads = [&](std::int64_t rows) { return torch::randn({rows, s.heads, s.columns}).to(torch::kBFloat16); };
  const ChunkedHeads given{heads(s.frames), heads(s.frames), heads(s.frames), heads(s.distances)};
  Tensor mask = torch::rand({chunks, s.chunk, context}) < 0.7;
  mask[0][0].fill_(false);  // a frame that sees nothing
  const Chunks how{.q_scale = 0.7,
                   .k_scale = 1.3,
                   .per_dim = torch::rand({s.columns}) + 0.5,
                   .logit_cap = s.cap,
                   .invalid_logit = -1e9,
                   .mask = mask,
                   .before = s.before};
  const std::vector<Tensor> narrow = leaves(given, torch::kBFloat16), wide = leaves(given, torch::kFloat);
  ASSERT_TRUE(kernels::has_local_attention({narrow[0], narrow[1], narrow[2], narrow[3]}));
  const Tensor got = nn::local_attention({narrow[0], narrow[1], narrow[2], narrow[3]}, how);
  const Tensor wanted = nn::local_attention({wide[0], wide[1], wide[2], wide[3]}, how);
  ASSERT_EQ(got.sizes(), wanted.sizes());
  EXPECT_LE(test::relative_error(got, wanted), 4e-3) << "rounded once";
  const Tensor d = torch::randn(wanted.sizes()).to(torch::kBFloat16);
  const auto got_gradients = torch::autograd::grad({got}, narrow, {d});
  const auto wanted_gradients = torch::autograd::grad({wanted}, wide, {d.to(torch::kFloat)});
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    EXPECT_EQ(got_gradients[i].scalar_type(), torch::kBFloat16);
    EXPECT_LE(test::relative_error(got_gradients[i], wanted_gradients[i]), 4e-3) << "gradient " << i;
  }
}

TEST(GatedConv, AndItsGradientAreThoseOfTheFormula) {
  torch::manual_seed(4);
  for (const auto& [frames, columns, width] : {std::array<std::int64_t, 3>{70, 33, 5}, {3, 16, 5}, {20, 7, 1}}) {
    const Tensor start = torch::randn({frames, 2 * columns}).to(torch::kBFloat16);
    const Tensor weight = torch::randn({columns, width}).t();
    const auto leaf = [&start](torch::ScalarType dtype) { return start.to(dtype).detach().requires_grad_(true); };
    const Tensor narrow = leaf(torch::kBFloat16), wide = leaf(torch::kFloat);
    ASSERT_TRUE(kernels::has_gated_conv(narrow));
    const Tensor got = gated_conv(narrow, weight), wanted = gated_conv(wide, weight);
    EXPECT_LE(test::relative_error(got, wanted), 4e-3);
    const Tensor dy = torch::randn(wanted.sizes()).to(torch::kBFloat16);
    const auto dx = torch::autograd::grad({got}, {narrow}, {dy});
    EXPECT_LE(test::relative_error(dx[0], torch::autograd::grad({wanted}, {wide}, {dy.to(torch::kFloat)})[0]), 4e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LocalAttention,
                         ::testing::Values(Shape{29, 2, 8, 4, 3, 1, 5, 5.0}, Shape{24, 3, 20, 12, 12, 0, 13, 50.0},
                                           Shape{5, 1, 33, 8, 2, 2, 3, 0.0}));

}  // namespace
}  // namespace bezel::nn
