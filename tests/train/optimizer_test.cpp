#include "bezel/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace bezel::train {
namespace {

torch::Tensor leaf(std::vector<double> values) { return torch::tensor(values, torch::kFloat).requires_grad_(); }

// AdamW as its paper writes it, one number at a time.
struct NaiveAdamW {
  double m = 0, v = 0;
  int t = 0;
  double step(double x, double g, double lr, const AdamSettings& s) {
    ++t;
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(s.beta1, t)), v_hat = v / (1 - std::pow(s.beta2, t));
    return x - lr * s.weight_decay * x - lr * m_hat / (std::sqrt(v_hat) + s.epsilon);
  }
};

TEST(Optimizer, FollowsAdamWAtChangingRates) {
  const AdamSettings settings{.weight_decay = 0.1};
  torch::Tensor x = leaf({0.5});
  Optimizer optimizer({x}, settings);
  NaiveAdamW naive;
  double expected = 0.5;
  for (int step = 0; step < 5; ++step) {
    const double gradient = std::sin(step + 1.0), rate = 0.01 * (step + 1);
    x.mutable_grad() = torch::tensor({gradient}, torch::kFloat);
    optimizer.step(rate);
    expected = naive.step(expected, gradient, rate, settings);
    EXPECT_NEAR(x.item<double>(), expected, 1e-6);
  }
}

TEST(Optimizer, LeavesTensorsWithoutGradientAlone) {
  torch::Tensor used = leaf({1, 2}), unused = leaf({3, 4});
  Optimizer optimizer({used, unused}, {.weight_decay = 0.5});
  used.mutable_grad() = torch::ones({2});
  optimizer.step(0.1);
  EXPECT_TRUE(torch::equal(unused.detach(), torch::tensor({3.f, 4.f})));
  // Its first step comes later and is a first step: m / sqrt(v) is 1 whatever the gradient.
  optimizer.clear_gradients();
  EXPECT_FALSE(used.grad().defined());
  unused.mutable_grad() = torch::full({2}, 7.f);
  Optimizer fresh({leaf({3, 4})}, {.weight_decay = 0.5});
  fresh.tensors()[0].mutable_grad() = torch::full({2}, 7.f);
  optimizer.step(0.1);
  fresh.step(0.1);
  EXPECT_TRUE(torch::equal(unused.detach(), fresh.tensors()[0].detach()));
}

TEST(Optimizer, ClipsTheNormOfAllGradientsTogether) {
  torch::Tensor a = leaf({0}), b = leaf({0});
  Optimizer optimizer({a, b}, {});
  a.mutable_grad() = torch::tensor({3.f});
  b.mutable_grad() = torch::tensor({4.f});
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5.0);
  optimizer.clip(5.0, 10.0);
  EXPECT_EQ(a.grad().item<float>(), 3.f);
  optimizer.clip(5.0, 1.0);
  EXPECT_NEAR(a.grad().item<float>(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad().item<float>(), 0.8, 1e-6);
}

TEST(Optimizer, NormShowsNumbersThatAreNone) {
  torch::Tensor a = leaf({0});
  Optimizer optimizer({a}, {});
  EXPECT_EQ(optimizer.gradient_norm(), 0.0);
  a.mutable_grad() = torch::tensor({NAN});
  EXPECT_TRUE(std::isnan(optimizer.gradient_norm()));
}

TEST(Optimizer, GoesOnFromMomentsToTheSameBits) {
  const AdamSettings settings{.weight_decay = 0.1};
  torch::Tensor x = leaf({0.5, -1.0}), y = leaf({2.0});
  Optimizer whole({x, y}, settings);
  const auto steps = [](Optimizer& optimizer, torch::Tensor& tensor, int from, int to) {
    for (int step = from; step < to; ++step) {
      tensor.mutable_grad() = torch::tensor({std::sin(step + 1.0), std::cos(step + 1.0)}, torch::kFloat);
      optimizer.step(0.01 * (step + 1));
    }
  };
  steps(whole, x, 0, 3);
  EXPECT_FALSE(whole.moments(1).has_value()) << "y has seen no gradient";
  ASSERT_TRUE(whole.moments(0).has_value());
  EXPECT_EQ(whole.moments(0)->steps, 3);

  torch::Tensor z = x.detach().clone().requires_grad_();
  Optimizer resumed({z, leaf({2.0})}, settings);
  const Moments moments = *whole.moments(0);
  resumed.set_moments(0, {moments.mean.clone(), moments.variance.clone(), moments.steps});
  steps(whole, x, 3, 6);
  steps(resumed, z, 3, 6);
  EXPECT_TRUE(torch::equal(x, z));
  EXPECT_THROW(resumed.set_moments(1, moments), c10::Error) << "of another shape";
}

}  // namespace
}  // namespace bezel::train
