// Products in bfloat16 on the simulated device: as in float32 but for rounding, and adapters are rounded once a pass.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "bezel/nn/experts.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/narrow_factors.h"
#include "support/simulated_device.h"

namespace bezel::nn {
namespace {

using simulated::kDevice;
using torch::Tensor;

constexpr double kBf16 = 2e-2;  // a few roundings of 2^-8, of all elements together

double error(const Tensor& got, const Tensor& wanted) {
  const Tensor wide = got.cpu().to(torch::kFloat);
  return ((wide - wanted).norm() / wanted.norm()).item<double>();
}

// Values that bfloat16 holds.
Tensor random(at::IntArrayRef shape) { return torch::randn(shape).to(torch::kBFloat16).to(torch::kFloat); }

Adapter adapter(const Tensor& a, const Tensor& b, double scale, torch::Device device) {
  return {.a = a.to(device).detach().requires_grad_(), .b = b.to(device).detach().requires_grad_(), .scale = scale};
}

/// Three layers over one input, with what they are made from.
struct Layers : torch::nn::Module {
  Layers(torch::Device device, torch::ScalarType dtype, const std::vector<double>& scales) {
    torch::manual_seed(3);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const auto out = static_cast<std::int64_t>(16 + 8 * i), rank = static_cast<std::int64_t>(4 + 4 * i);
      Linear layer = register_module("layer" + std::to_string(i), Linear(32, out));
      layer->weight = quant::dense_weight((random({out, 32}) / 8).to(device, dtype), "weight");
      layer->adapter = adapter(torch::randn({rank, 32}) / 6, torch::randn({out, rank}) / 2, scales[i], device);
      all.push_back(layer);
    }
  }

  // Outputs, then gradients of the input and of each A and B.
  std::vector<Tensor> run(torch::Device device, torch::ScalarType dtype) {
    torch::manual_seed(4);
    const Tensor x = random({6, 32}).to(device, dtype).requires_grad_();
    std::vector<Tensor> found = project(x, all);
    std::vector<Tensor> gradients;
    for (const Tensor& y : found) gradients.push_back(random(y.sizes()).to(device, dtype));
    torch::autograd::backward(found, gradients);
    found.push_back(x.grad());
    for (Linear& layer : all)
      for (Tensor& tensor : layer->adapter->tensors()) {
        found.push_back(tensor.grad());
        tensor.mutable_grad() = Tensor();
      }
    return found;
  }

  std::vector<Linear> all;
};

class NarrowLayers : public testing::TestWithParam<std::vector<double>> {};

TEST_P(NarrowLayers, ComputeWhatFloat32Computes) {
  Layers device(kDevice, torch::kBFloat16, GetParam()), host(torch::kCPU, torch::kFloat, GetParam());
  const ScopedNarrowFactors narrow(narrow_factors(device, torch::kBFloat16, kDevice));
  ASSERT_TRUE(NarrowFactors::current());
  const std::vector<Tensor> got = device.run(kDevice, torch::kBFloat16), wanted = host.run(torch::kCPU, torch::kFloat);
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_LT(error(got[i], wanted[i]), kBf16) << i;
}

TEST_P(NarrowLayers, RoundAdaptersToTheSameBitsOnceForAPass) {
  Layers layers(kDevice, torch::kBFloat16, GetParam());
  simulated::reset_counts();
  const std::vector<Tensor> wanted = layers.run(kDevice, torch::kBFloat16);
  const std::int64_t launches = simulated::counts().launches;
  simulated::reset_counts();
  std::vector<Tensor> got;
  {
    const ScopedNarrowFactors narrow(narrow_factors(layers, torch::kBFloat16, kDevice));
    got = layers.run(kDevice, torch::kBFloat16);
  }
  EXPECT_FALSE(NarrowFactors::current());
  EXPECT_LT(simulated::counts().launches, launches);
  EXPECT_EQ(simulated::counts().by_operator.count("aten::copy_"), 0);
  EXPECT_EQ(simulated::counts().by_operator.at("aten::_foreach_copy_"), 1);
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(got[i].cpu(), wanted[i].cpu())) << i;
}

INSTANTIATE_TEST_SUITE_P(Scales, NarrowLayers,
                         testing::Values(std::vector{2.0}, std::vector{0.75, 0.75, 0.75}, std::vector{2.0, 0.5, 1.0}));

TEST(NarrowFactors, AreOneMatrixWhereLayersShareAnInput) {
  Layers layers(kDevice, torch::kBFloat16, {1, 1, 1});
  const auto narrow = narrow_factors(layers, torch::kBFloat16, kDevice);
  std::vector<Tensor> parts, wanted;
  for (const Linear& layer : layers.all) {
    parts.push_back(narrow->of(layer->adapter->a));
    wanted.push_back(layer->adapter->a.detach().cpu().to(torch::kBFloat16));
  }
  simulated::reset_counts();
  const Tensor all = stacked_rows(parts);
  EXPECT_EQ(simulated::counts().launches, 0);
  EXPECT_TRUE(at::equal(all.cpu(), at::cat(wanted)));
  EXPECT_TRUE(at::equal(stacked_rows({parts[0], parts[2]}).cpu(), at::cat({wanted[0], wanted[2]})));
}

TEST(NarrowFactors, AreNoneOnTheCpuAndInFloat32) {
  const Layers layers(kDevice, torch::kBFloat16, {1});
  EXPECT_EQ(narrow_factors(layers, torch::kFloat, kDevice), nullptr);
  EXPECT_EQ(narrow_factors(layers, torch::kBFloat16, torch::kCPU), nullptr);
}

TEST(NarrowFactors, JoinColumnsOfOneMatrixWithoutACopy) {
  const Tensor whole = torch::randn({3, 10});
  const Tensor joined = joined_columns({whole.narrow(1, 0, 4), whole.narrow(1, 4, 5)});
  EXPECT_EQ(joined.data_ptr(), whole.data_ptr());
  EXPECT_TRUE(at::equal(joined, whole.narrow(1, 0, 9)));
  const std::vector<Tensor> apart{whole.narrow(1, 0, 4), whole.narrow(1, 5, 5)};
  EXPECT_TRUE(at::equal(joined_columns(apart), at::cat(apart, 1)));
}

struct Mixture : torch::nn::Module {
  Mixture() : experts(register_module("experts", std::make_shared<StackedExperts>(4, 16, 8))) {
    torch::manual_seed(5);
    const auto fill = [](ExpertStack& stack, std::int64_t out, std::int64_t in) {
      stack.weight = quant::dense_weight((random({4, out, in}) / 4).to(kDevice, torch::kBFloat16), "stack");
      stack.adapter = adapter(torch::randn({4 * 3, in}) / 4, torch::randn({out, 3 * 4}) / 2, 0.5, kDevice);
    };
    fill(experts->gate_up_proj, 16, 16);
    fill(experts->down_proj, 16, 8);
  }

  std::vector<Tensor> run() const {
    torch::manual_seed(6);
    const Tensor x = random({7, 16}).to(kDevice, torch::kBFloat16).requires_grad_();
    const Tensor chosen = torch::randint(0, 4, {7, 1}, at::kLong).to(kDevice);
    const Tensor weight = torch::rand({7, 1}).to(kDevice);
    const Tensor y = experts->forward(x, chosen, weight);
    y.sum(torch::kFloat).backward();
    std::vector<Tensor> found{y, x.grad()};
    for (ExpertStack* stack : {&experts->gate_up_proj, &experts->down_proj})
      for (Tensor& tensor : stack->adapter->tensors()) {
        found.push_back(tensor.grad());
        tensor.mutable_grad() = Tensor();
      }
    return found;
  }

  std::shared_ptr<StackedExperts> experts;
};

TEST(NarrowFactors, AreThoseOfExpertsToo) {
  const Mixture mixture;
  const std::vector<Tensor> wanted = mixture.run();
  const ScopedNarrowFactors narrow(narrow_factors(mixture, torch::kBFloat16, kDevice));
  ASSERT_TRUE(NarrowFactors::current()->of(mixture.experts->down_proj.adapter->b).defined());
  const std::vector<Tensor> got = mixture.run();
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(got[i].cpu(), wanted[i].cpu())) << i;
}

TEST(NarrowNorm, IsOneKernelEachWay) {
  torch::manual_seed(7);
  const Tensor x = random({5, 24}), weight = random({24}), residual = random({5, 24}), dy = random({5, 24});
  const auto both = [&](torch::Device device, torch::ScalarType dtype, const Tensor& factor, const Tensor& added) {
    const Tensor leaf = x.to(device, dtype).clone().requires_grad_();
    const Tensor given = added.defined() ? added.to(device, dtype) : added;
    const Tensor gradient = dy.to(device, dtype);
    simulated::reset_counts();
    const Tensor y = rms_norm(leaf, factor, 1e-6, given);
    y.backward(gradient);
    return std::vector<Tensor>{y, leaf.grad()};
  };
  for (const Tensor& added : {Tensor(), residual}) {
    const std::vector<Tensor> wanted = both(torch::kCPU, torch::kFloat, weight, added);
    for (const auto dtype : {torch::kBFloat16, torch::kFloat}) {  // a weight that bfloat16 cannot hold stays float32
      const std::vector<Tensor> got = both(kDevice, torch::kBFloat16, weight.to(kDevice, dtype), added);
      for (std::size_t i = 0; i < 2; ++i) EXPECT_LT(error(got[i], wanted[i]), kBf16);
      if (dtype == torch::kBFloat16) {
        EXPECT_EQ(simulated::counts().launches, added.defined() ? 3 : 2);
      }
    }
  }
}

}  // namespace
}  // namespace bezel::nn
