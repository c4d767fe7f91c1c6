#include "bezel/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/io/tensor_io.h"
#include "tests/support/temp_folder.h"

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
  Optimizer optimizer({{"x", x}}, settings);
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
  Optimizer optimizer({{"used", used}, {"unused", unused}}, {.weight_decay = 0.5});
  used.mutable_grad() = torch::ones({2});
  optimizer.step(0.1);
  EXPECT_TRUE(torch::equal(unused.detach(), torch::tensor({3.f, 4.f})));
  // Its first step comes later and is a first step: m / sqrt(v) is 1 whatever the gradient.
  optimizer.clear_gradients();
  EXPECT_FALSE(used.grad().defined());
  unused.mutable_grad() = torch::full({2}, 7.f);
  Optimizer fresh({{"unused", leaf({3, 4})}}, {.weight_decay = 0.5});
  torch::Tensor alone = fresh.parameters()[0].second;
  alone.mutable_grad() = torch::full({2}, 7.f);
  optimizer.step(0.1);
  fresh.step(0.1);
  EXPECT_TRUE(torch::equal(unused.detach(), alone.detach()));
}

TEST(Optimizer, ClipsTheNormOfAllGradientsTogether) {
  torch::Tensor a = leaf({0}), b = leaf({0});
  Optimizer optimizer({{"a", a}, {"b", b}}, {});
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
  Optimizer optimizer({{"a", a}}, {});
  EXPECT_EQ(optimizer.gradient_norm(), 0.0);
  a.mutable_grad() = torch::tensor({NAN});
  EXPECT_TRUE(std::isnan(optimizer.gradient_norm()));
}

TEST(Optimizer, LoadsItsStateByNameToTheSameBits) {
  const test::TempFolder folder;
  const AdamSettings settings{.weight_decay = 0.1};
  torch::Tensor x = leaf({0.5, -1.0}), y = leaf({2.0});
  Optimizer whole({{"x", x}, {"y", y}}, settings);
  const auto steps = [](Optimizer& optimizer, torch::Tensor& tensor, int from, int to) {
    for (int step = from; step < to; ++step) {
      tensor.mutable_grad() = torch::tensor({std::sin(step + 1.0), std::cos(step + 1.0)}, torch::kFloat);
      optimizer.step(0.01 * (step + 1));
    }
  };
  steps(whole, x, 0, 3);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : whole.state()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"exp_avg.x", "exp_avg_sq.x", "step.x"})) << "y has had no gradient";
  EXPECT_EQ(whole.state()[2].second.item<std::int64_t>(), 3);
  const std::string path = folder / "optimizer.safetensors";
  io::save_safetensors(path, whole.state());

  torch::Tensor z = x.detach().clone().requires_grad_();
  Optimizer resumed({{"y", leaf({2.0})}, {"x", z}}, settings);  // names count, the order does not
  StateFile file(path);
  resumed.load_state(file);
  file.finish();
  steps(whole, x, 3, 6);
  steps(resumed, z, 3, 6);
  EXPECT_TRUE(torch::equal(x, z));

  Optimizer wider({{"x", leaf({1, 2, 3})}}, settings);
  StateFile again(path);
  EXPECT_TRUE(test::says(test::error_of([&] { wider.load_state(again); }), "tensor 'exp_avg.x' is Float [2]"));
}

}  // namespace
}  // namespace bezel::train
