#include "bezel/nn/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "bezel/nn/clip_counts.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/random_keys.h"
#include "support/relative_error.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

// The formula of the layer in plain autograd.
Tensor naive(const Tensor& x, const Tensor& w, const std::optional<Clip>& clip, const Tensor& a, const Tensor& b,
             double scale) {
  const Tensor x_clamped = clip ? at::clamp(x, clip->input_min, clip->input_max) : x;
  Tensor y = at::matmul(x_clamped, w.t());
  if (a.defined()) y = y + scale * at::matmul(at::matmul(x_clamped, a.t()), b.t());
  return clip ? at::clamp(y, clip->output_min, clip->output_max) : y;
}

struct Case {
  bool clipped;
  bool adapted;
};

class LinearParity : public testing::TestWithParam<Case> {};

TEST_P(LinearParity, ForwardAndGradientsEqualTheFormula) {
  torch::manual_seed(3);
  const Tensor w = torch::randn({7, 5}, at::kDouble);
  Linear layer(5, 7, LinearImpl::Options{.clipped = GetParam().clipped});
  layer->weight = quant::dense_weight(w, "w");
  if (GetParam().clipped) layer->clip = Clip{-0.8, 0.9, -1.1, 1.0};
  Tensor a, b;
  if (GetParam().adapted) {
    a = torch::randn({2, 5}).requires_grad_();
    b = torch::randn({7, 2}).requires_grad_();
    layer->adapter = Adapter{.a = a, .b = b, .scale = 1.5, .dropout = 0.0};
  }
  const Tensor weight = w.to(torch::kFloat);
  layer->weight = quant::dense_weight(weight, "w");
  const Tensor x = torch::randn({3, 4, 5});
  const Tensor dy = torch::randn({3, 4, 7});

  const Tensor x1 = x.clone().requires_grad_(), x2 = x.clone().requires_grad_();
  const Tensor y1 = layer(x1), y2 = naive(x2, weight, layer->clip, a, b, 1.5);
  EXPECT_TRUE(torch::allclose(y1, y2, 1e-5, 1e-6));
  std::vector<Tensor> in1{x1}, in2{x2};
  if (a.defined()) in1.insert(in1.end(), {a, b}), in2.insert(in2.end(), {a, b});
  const auto g1 = torch::autograd::grad({y1}, in1, {dy});
  const auto g2 = torch::autograd::grad({y2}, in2, {dy});
  for (std::size_t i = 0; i < g1.size(); ++i) EXPECT_TRUE(torch::allclose(g1[i], g2[i], 1e-4, 1e-5)) << i;
  if (GetParam().clipped) {
    EXPECT_LE(y1.max().item<float>(), 1.0f);
    EXPECT_GT((y1 == 1.0f).sum().item<int>(), 0) << "nothing saturates: the test shows nothing";
  }
}

TEST_P(LinearParity, GatedInputEqualsThatOfTheProduct) {
  torch::manual_seed(4);
  Linear layer(5, 7, LinearImpl::Options{.clipped = GetParam().clipped});
  layer->weight = quant::dense_weight(torch::randn({7, 5}), "w");
  if (GetParam().clipped) layer->clip = Clip{-0.3, 0.4, -0.9, 1.0};
  std::vector<Tensor> in{torch::randn({3, 4, 5}).requires_grad_(), torch::randn({3, 4, 5}).requires_grad_()};
  if (GetParam().adapted) {
    layer->adapter = Adapter{.a = torch::randn({2, 5}).requires_grad_(),
                             .b = torch::randn({7, 2}).requires_grad_(),
                             .scale = 1.5,
                             .dropout = 0.0};
    in.insert(in.end(), {layer->adapter->a, layer->adapter->b});
  }
  const Tensor got = layer(FusedInput::gated(in[0], in[1])), dy = torch::randn({3, 4, 7});
  const Tensor wanted = layer(at::gelu(in[0], "tanh") * in[1]);
  EXPECT_TRUE(torch::allclose(got, wanted, 1e-5, 1e-6));
  const auto found = torch::autograd::grad({got}, in, {dy}), right = torch::autograd::grad({wanted}, in, {dy});
  for (std::size_t i = 0; i < in.size(); ++i) EXPECT_TRUE(torch::allclose(found[i], right[i], 1e-4, 1e-5)) << i;
}

// So it is where only up_proj has an adapter, and nothing below it.
TEST_P(LinearParity, GatedInputOfWhichOneWantsAGradient) {
  torch::manual_seed(4);
  Linear layer(5, 7, LinearImpl::Options{.clipped = GetParam().clipped});
  layer->weight = quant::dense_weight(torch::randn({7, 5}), "w");
  if (GetParam().clipped) layer->clip = Clip{-0.3, 0.4, -0.9, 1.0};
  for (const bool first : {true, false}) {
    const Tensor gate = torch::randn({12, 5}).requires_grad_(first), up = torch::randn({12, 5}).requires_grad_(!first);
    const Tensor got = layer(FusedInput::gated(gate, up)), dy = torch::randn({12, 7});
    const Tensor wanted = layer(at::gelu(gate, "tanh") * up), in = first ? gate : up;
    EXPECT_TRUE(torch::allclose(torch::autograd::grad({got}, {in}, {dy})[0],
                                torch::autograd::grad({wanted}, {in}, {dy})[0], 1e-4, 1e-5));
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearParity,
                         testing::Values(Case{false, false}, Case{true, false}, Case{false, true}, Case{true, true}));

TEST(Linear, ClipCountsAreWhatLiesOutsideEachBound) {
  torch::manual_seed(5);
  Linear layer(5, 7, LinearImpl::Options{.clipped = true});
  const Tensor w = torch::randn({7, 5});
  layer->weight = quant::dense_weight(w, "w");
  layer->clip = Clip{-0.8, 0.9, -1.1, 1.0};
  const Tensor x = torch::randn({3, 4, 5});
  const Tensor plain = layer(x);
  auto counting = std::make_unique<ClipObserver>(std::vector{layer.get()});
  EXPECT_NE(layer->clip_counts, nullptr);
  EXPECT_TRUE(torch::equal(layer(x), plain));
  layer(x);
  std::int64_t below = 0, above = 0, out_below = 0, out_above = 0;
  for (const float value : std::vector<float>(x.data_ptr<float>(), x.data_ptr<float>() + x.numel())) {
    below += value < -0.8f;
    above += value > 0.9f;
  }
  const Tensor y = at::matmul(at::clamp(x, -0.8, 0.9), w.t()).contiguous();
  for (const float value : std::vector<float>(y.data_ptr<float>(), y.data_ptr<float>() + y.numel())) {
    out_below += value < -1.1f;
    out_above += value > 1.0f;
  }
  EXPECT_GT(below * above * out_below * out_above, 0) << "nothing saturates: the test shows nothing";
  const ClipCounts counts = counting->of(layer.get());
  EXPECT_EQ(counts.inputs, 2 * 60);
  EXPECT_EQ(counts.outputs, 2 * 84);
  EXPECT_EQ(counts.input_min, 2 * below);
  EXPECT_EQ(counts.input_max, 2 * above);
  EXPECT_EQ(counts.output_min, 2 * out_below);
  EXPECT_EQ(counts.output_max, 2 * out_above);
  EXPECT_THROW(ClipObserver(std::vector{layer.get()}), std::logic_error) << "a layer has one observer";
  layer(x);
  EXPECT_EQ(counting->of(layer.get()).inputs, 3 * 60) << "a second observer that is refused detaches nothing";
  counting.reset();
  EXPECT_EQ(layer->clip_counts, nullptr);
  EXPECT_TRUE(torch::equal(layer(x), plain));
  Linear open(5, 7);
  EXPECT_THROW(ClipObserver(std::vector{open.get()}), std::logic_error) << "nothing to count";
}

TEST(Linear, GradientAtTheBoundItselfIsOne) {
  Linear layer(1, 1, LinearImpl::Options{.clipped = true});
  layer->weight = quant::dense_weight(torch::ones({1, 1}), "w");
  layer->clip = Clip{-1.0, 1.0, -1.0, 1.0};
  const Tensor x = torch::tensor({{1.0f}, {1.5f}, {-1.0f}, {-1.5f}}).requires_grad_();
  layer(x).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad().flatten(), torch::tensor({1.0f, 0.0f, 1.0f, 0.0f})));
}

TEST(Linear, AdapterLiesInsideTheClampsSoMergingIsExact) {
  torch::manual_seed(4);
  const Tensor w = torch::randn({6, 4}), a = torch::randn({2, 4}), b = torch::randn({6, 2});
  Linear adapted(4, 6, LinearImpl::Options{.clipped = true}), merged(4, 6, LinearImpl::Options{.clipped = true});
  adapted->clip = merged->clip = Clip{-0.5, 0.5, -0.4, 0.4};
  adapted->weight = quant::dense_weight(w, "w");
  adapted->adapter = Adapter{.a = a, .b = b, .scale = 0.7, .dropout = 0.0};
  merged->weight = quant::dense_weight(w + 0.7 * b.mm(a), "w");
  const Tensor x = torch::randn({9, 4});
  EXPECT_TRUE(torch::allclose(adapted(x), merged(x), 1e-5, 1e-6));
}

TEST(Linear, BfloatBaseTakesBothFactorsIntoBfloatSumsTheDeltaInFloatAndRoundsOnce) {
  torch::manual_seed(5);
  const Tensor w = torch::randn({8, 16}).to(torch::kBFloat16);
  const Tensor a = torch::randn({2, 16}), b = torch::randn({8, 2});
  Linear layer(16, 8);
  layer->weight = quant::dense_weight(w, "w");
  layer->adapter = Adapter{.a = a, .b = b, .scale = 2.0, .dropout = 0.0};
  const Tensor x = torch::randn({5, 16}).to(torch::kBFloat16);
  const Tensor base = at::mm(x.to(torch::kFloat), w.to(torch::kFloat).t()).to(torch::kBFloat16);
  const Tensor h = at::mm(x.to(torch::kFloat), a.to(torch::kBFloat16).to(torch::kFloat).t()).to(torch::kBFloat16);
  const Tensor delta = at::mm(h.to(torch::kFloat), b.t().to(torch::kBFloat16).to(torch::kFloat)) * 2.0;
  const Tensor wanted = (base.to(torch::kFloat) + delta).to(torch::kBFloat16);
  const Tensor got = layer(x);
  EXPECT_EQ(got.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::allclose(got.to(torch::kFloat), wanted.to(torch::kFloat), 1e-2, 1e-2));
  EXPECT_GE((got == wanted).sum().item<int>(), 39) << "more than a last-bit difference of one product";
}

TEST(Linear, ComputeDtypeNeverComesFromStorage) {
  const Tensor w = torch::randn({8, 16});
  for (const auto stored : {torch::kFloat, torch::kBFloat16})
    for (const auto compute : {torch::kFloat, torch::kBFloat16}) {
      Linear layer(16, 8);
      layer->weight = quant::dense_weight(w.to(stored), "w");
      EXPECT_EQ(layer(torch::randn({2, 16}).to(compute)).scalar_type(), compute);
    }
}

TEST(Linear, DropoutIsOfTheAdapterOnlyAndOnlyInTraining) {
  torch::manual_seed(6);
  const Tensor w = torch::randn({4, 64});
  Linear layer(64, 4);
  layer->weight = quant::dense_weight(w, "w");
  layer->adapter = Adapter{.a = torch::randn({2, 64}), .b = torch::zeros({4, 2}), .scale = 1.0, .dropout = 0.5};
  const Tensor x = torch::randn({3, 64});
  layer->train();
  EXPECT_THROW(layer(x), c10::Error) << "outside of a step";
  {
    const ScopedRandomKeys random(RandomKeys::of_step(1, 0));
    EXPECT_TRUE(torch::allclose(layer(x), at::mm(x, w.t()), 1e-5, 1e-5)) << "B is zero: dropout must not show";
  }
  layer->adapter->b = torch::randn({4, 2});
  const auto in_step = [&](std::int64_t update) {
    const ScopedRandomKeys random(RandomKeys::of_step(1, update));
    return layer(x);
  };
  EXPECT_FALSE(torch::equal(in_step(0), in_step(1)));
  EXPECT_TRUE(torch::equal(in_step(0), in_step(0)));
  layer->eval();
  EXPECT_TRUE(torch::equal(layer(x), in_step(0)));
}

TEST(Linear, DropoutGradientsFollowTheMaskOfTheForwardPass) {
  torch::manual_seed(7);
  Linear layer(32, 3);
  layer->weight = quant::dense_weight(torch::zeros({3, 32}), "w");
  const Tensor a = torch::randn({2, 32}).requires_grad_(), b = torch::randn({3, 2}).requires_grad_();
  layer->adapter = Adapter{.a = a, .b = b, .scale = 1.0, .dropout = 0.5};
  const Tensor x = torch::ones({1, 32}).requires_grad_();
  const ScopedRandomKeys random(RandomKeys::of_step(7, 0));
  const Tensor y = layer(x);
  y.sum().backward();
  // y is linear in x and in A with the same mask: <dA, A> = <dx, x> = y.
  EXPECT_NEAR((a.grad() * a).sum().item<double>(), y.sum().item<double>(), 1e-4);
  EXPECT_NEAR((x.grad() * x).sum().item<double>(), y.sum().item<double>(), 1e-4);
  EXPECT_GT((x.grad() == 0).sum().item<int>(), 0);
}

Linear random_layer(std::int64_t in, std::int64_t out, std::int64_t rank, torch::ScalarType dtype) {
  Linear layer(in, out, LinearImpl::Options{.clipped = true});
  layer->weight = quant::dense_weight(torch::randn({out, in}).to(dtype), "w");
  layer->clip = Clip{-0.75, 1.0, -3.0, 2.5};
  if (rank > 0)
    layer->adapter = Adapter{torch::randn({rank, in}).requires_grad_(), torch::randn({out, rank}).requires_grad_(),
                             0.25 * static_cast<double>(rank), 0.0};
  return layer;
}

// Results, then gradients of the sources and of every adapter.
std::vector<Tensor> results(const std::vector<Tensor>& outputs, std::vector<Tensor> inputs,
                            const std::vector<Linear>& layers, const std::vector<Tensor>& d_outputs) {
  for (const Linear& layer : layers)
    if (layer->adapter) inputs.insert(inputs.end(), {layer->adapter->a, layer->adapter->b});
  std::vector<Tensor> all = torch::autograd::grad(outputs, inputs, d_outputs, /*retain_graph=*/true);
  for (const Tensor& output : outputs) all.push_back(output.detach());
  return all;
}

TEST(Linear, LayersOverOneInputGiveTogetherWhatEachGives) {
  torch::manual_seed(8);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const std::vector<Linear> layers{random_layer(24, 40, 3, dtype), random_layer(24, 16, 0, dtype),
                                     random_layer(24, 40, 5, dtype)};
    const Tensor x = torch::randn({2, 7, 24}).to(dtype).requires_grad_();
    const Tensor weight = torch::rand({24}) + 0.5;
    const std::vector<Tensor> together = project(FusedInput::normed(x, weight, 1e-6), layers);
    std::vector<Tensor> alone, d_outputs;
    const Tensor normed = rms_norm(x, weight, 1e-6);
    for (const Linear& layer : layers) {
      alone.push_back(layer.ptr()->forward(normed));
      d_outputs.push_back(torch::randn(alone.back().sizes()).to(dtype));
    }
    const auto got = results(together, {x}, layers, d_outputs), wanted = results(alone, {x}, layers, d_outputs);
    ASSERT_EQ(got.size(), 8u);
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (dtype == torch::kFloat)
        EXPECT_TRUE(torch::equal(got[i], wanted[i])) << i;  // a clamp may hang on the last bit
      else
        EXPECT_LE(test::relative_error(got[i], wanted[i]), 1e-2) << i;
    }
  }
}

TEST(Linear, LayersWithOtherClampsOrDropoutStayApart) {
  torch::manual_seed(9);
  std::vector<Linear> layers{random_layer(8, 6, 2, torch::kBFloat16), random_layer(8, 6, 2, torch::kBFloat16)};
  layers[1]->clip->input_max = 0.25;
  const Tensor x = torch::randn({5, 8}).to(torch::kBFloat16);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(torch::equal(project(x, layers)[i], layers[i](x)));
  layers[1]->clip = layers[0]->clip;
  layers[1]->adapter->dropout = 0.5;
  for (const Linear& layer : layers) layer.ptr()->train();
  const auto in_step = [&](std::int64_t update) {
    const ScopedRandomKeys random(RandomKeys::of_step(9, update));
    return project(x, layers);
  };
  const auto once = in_step(0), again = in_step(1);
  EXPECT_TRUE(torch::equal(once[0], again[0]));
  EXPECT_FALSE(torch::equal(once[1], again[1]));
}

TEST(Linear, AnInputMadeAgainGivesTheSameGradients) {
  torch::manual_seed(10);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Linear layer = random_layer(12, 10, 2, dtype);
    const Tensor x = torch::randn({4, 12}).to(dtype).requires_grad_(),
                 y = torch::randn({4, 12}).to(dtype).requires_grad_();
    const std::vector<std::pair<FusedInput, std::vector<Tensor>>> inputs{
        {FusedInput::normed(x, torch::rand({12}), 1e-6), {x}},
        {FusedInput::silu(x), {x}},
        {FusedInput::gated(x, y), {x, y}},
        {x, {x}}};
    const Tensor dy = torch::randn({4, 10}).to(dtype);
    for (const auto& [input, sources] : inputs) {
      const auto got = results({layer.ptr()->forward(input)}, sources, {layer}, {dy});
      const auto wanted = results({layer.ptr()->forward(input.value())}, sources, {layer}, {dy});
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], wanted[i])) << i;
    }
  }
}

TEST(Linear, DamagedWeightIsNamedAtFirstUse) {
  Tensor w = torch::zeros({2, 2});
  w[1][0] = std::numeric_limits<float>::quiet_NaN();
  Linear layer(2, 2);
  layer->weight = quant::dense_weight(w, "some.weight");
  try {
    layer(torch::zeros({1, 2}));
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("some.weight"), std::string::npos);
  }
}

}  // namespace
}  // namespace bezel::nn
