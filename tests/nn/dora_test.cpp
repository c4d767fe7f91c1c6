#include "bezel/nn/dora.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bezel/nn/random_keys.h"
#include "bezel/quant/options.h"
#include "support/relative_error.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

struct DoraCase {
  bool clipped, biased, drops;
};

class Dora : public testing::TestWithParam<DoraCase> {
 protected:
  Dora() {
    torch::manual_seed(8);
    const DoraCase& which = GetParam();
    layer = Linear(6, 7, LinearImpl::Options{.bias = which.biased, .clipped = which.clipped});
    w = torch::randn({7, 6});
    layer->weight = quant::dense_weight(w, "w");
    if (which.biased) layer->bias = torch::randn({7});
    if (which.clipped) layer->clip = Clip{-0.8, 0.9, -1.1, 1.0};
    layer->adapter = Adapter{.a = torch::randn({2, 6}).requires_grad_(),
                             .b = torch::randn({7, 2}).requires_grad_(),
                             .scale = 0.7,
                             .dropout = which.drops ? 0.4 : 0.0,
                             .magnitude = (torch::rand({7}) + 0.5).requires_grad_()};
    layer->train();
  }

  // PEFT's formula in plain autograd, with the dropout that the layer has in a step of `seed`.
  Tensor naive(const Tensor& x, std::uint64_t seed) const {
    const Adapter& adapter = *layer->adapter;
    const Tensor clamped = layer->clip ? at::clamp(x, layer->clip->input_min, layer->clip->input_max) : x;
    Tensor dropped = clamped;
    if (adapter.dropout > 0) {
      const ScopedRandomKeys random(RandomKeys::of_step(seed, 0));
      const Tensor keep = dropout_mask(0, x.size(0), x.size(1), 0.4, x.device());
      dropped = clamped * keep / 0.6;
    }
    const Tensor norm = (w + adapter.scale * adapter.b.mm(adapter.a)).norm(2, {1}).detach();
    const Tensor s = adapter.magnitude / norm;
    const Tensor base = clamped.mm(w.t()) + (layer->bias.defined() ? layer->bias : torch::zeros({7}));
    const Tensor y =
        base + (s - 1) * dropped.mm(w.t()) + s * dropped.mm(adapter.a.t()).mm(adapter.b.t()) * adapter.scale;
    return layer->clip ? at::clamp(y, layer->clip->output_min, layer->clip->output_max) : y;
  }

  Linear layer{nullptr};
  Tensor w;
};

TEST_P(Dora, ForwardAndGradientsEqualTheFormula) {
  const Tensor x = torch::randn({5, 6}), dy = torch::randn({5, 7});
  std::vector<Tensor> in = layer->adapter->tensors();
  ASSERT_EQ(in.size(), 3u);
  const Tensor x1 = x.clone().requires_grad_(), x2 = x.clone().requires_grad_();
  const ScopedRandomKeys random(RandomKeys::of_step(21, 0));
  const Tensor got = layer(x1), wanted = naive(x2, 21);
  EXPECT_TRUE(torch::allclose(got, wanted, 1e-5, 1e-5)) << got << wanted;
  std::vector<Tensor> in1 = in, in2 = in;
  in1.push_back(x1);
  in2.push_back(x2);
  const auto g1 = torch::autograd::grad({got}, in1, {dy}), g2 = torch::autograd::grad({wanted}, in2, {dy});
  for (std::size_t i = 0; i < g1.size(); ++i) EXPECT_TRUE(torch::allclose(g1[i], g2[i], 1e-4, 1e-5)) << i;
}

INSTANTIATE_TEST_SUITE_P(All, Dora,
                         testing::Values(DoraCase{false, false, false}, DoraCase{true, false, false},
                                         DoraCase{false, true, false}, DoraCase{false, false, true},
                                         DoraCase{true, true, true}));

TEST(DoraNorms, FollowEveryChangeOfAAndB) {
  torch::manual_seed(3);
  const Tensor w = torch::randn({5, 4});
  const auto weight = quant::dense_weight(w, "w");
  Adapter adapter{.a = torch::randn({2, 4}).requires_grad_(), .b = torch::zeros({5, 2}).requires_grad_(), .scale = 2.0};
  const auto expect_norms = [&] {
    const Tensor wanted = (w + 2.0 * adapter.b.detach().mm(adapter.a.detach())).norm(2, {1});
    EXPECT_TRUE(torch::allclose(effective_norms(adapter, *weight), wanted, 1e-6, 1e-6));
  };
  expect_norms();
  const at::NoGradGuard no_grad;
  adapter.b.normal_();
  expect_norms();
  adapter.a.add_(0.5);
  expect_norms();
  adapter.b.mul_(-3);
  expect_norms();
  adapter.a = torch::randn({2, 4});
  expect_norms();
}

TEST(DoraNorms, AFreshMagnitudeChangesNothing) {
  torch::manual_seed(4);
  Linear layer(8, 6);
  layer->weight = quant::dense_weight(torch::randn({6, 8}), "w");
  const Tensor x = torch::randn({3, 8}), base = layer(x);
  Adapter adapter{.a = torch::randn({2, 8}).requires_grad_(), .b = torch::zeros({6, 2}).requires_grad_()};
  add_magnitude(adapter, *layer->weight);
  EXPECT_TRUE(adapter.magnitude.requires_grad());
  layer->adapter = adapter;
  EXPECT_TRUE(torch::equal(layer(x), base));
}

// Layers over one input go through one product there; rounding is bfloat16's.
TEST(DoraBfloat16, LayersTogetherAreNearTheFormula) {
  torch::manual_seed(5);
  std::vector<Linear> layers;
  for (int i = 0; i < 3; ++i) {
    layers.emplace_back(32, 48);
    layers.back()->weight = quant::dense_weight(torch::randn({48, 32}).to(torch::kBFloat16), "w");
    if (i == 1) continue;
    layers.back()->adapter =
        Adapter{.a = torch::randn({4, 32}).requires_grad_(), .b = (0.3 * torch::randn({48, 4})).requires_grad_()};
    if (i == 2) layers.back()->adapter->magnitude = (torch::rand({48}) * 4 + 3).requires_grad_();
  }
  const Tensor x = torch::randn({20, 32}).to(torch::kBFloat16).requires_grad_();
  const std::vector<Tensor> got = project(x, layers);
  const Adapter& adapter = *layers[2]->adapter;
  const Tensor all = layers[2]->weight->dequantize(torch::kFloat) + adapter.b.mm(adapter.a);
  const Tensor s = adapter.magnitude / all.norm(2, {1}).detach();
  const Tensor wide = x.detach().to(torch::kFloat).requires_grad_(), wanted = wide.mm(all.t()) * s;
  EXPECT_LT(test::relative_error(got[2], wanted), 1e-2);
  const Tensor dy = torch::randn({20, 48});
  const auto found =
      torch::autograd::grad({got[2]}, {adapter.a, adapter.b, adapter.magnitude, x}, {dy.to(torch::kBFloat16)});
  const auto right = torch::autograd::grad({wanted}, {adapter.a, adapter.b, adapter.magnitude, wide}, {dy});
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_LT(test::relative_error(found[i], right[i]), 2e-2) << i;
}

}  // namespace
}  // namespace bezel::nn
