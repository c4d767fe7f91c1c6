#include "bezel/train/optimizer.h"

#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>
#include <torch/types.h>

#include "bezel/io/tensor_io.h"
#include "bezel/train/adamw_8bit.h"
#include "bezel/train/muon.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

torch::Tensor leaf(std::vector<double> values) { return torch::tensor(values, torch::kFloat).requires_grad_(); }

// AdamW as its paper writes it, one number at a time.
struct NaiveAdamW {
  double m = 0, v = 0;
  int t = 0;
  double step(double x, double g, double lr, const OptimizerSettings& s) {
    ++t;
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(s.beta1, t)), v_hat = v / (1 - std::pow(s.beta2, t));
    return x - lr * s.weight_decay * x - lr * m_hat / (std::sqrt(v_hat) + s.epsilon);
  }
};

TEST(Optimizer, FollowsAdamWAtChangingRates) {
  const OptimizerSettings settings{.weight_decay = 0.1};
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

TEST(Optimizer, AdamWIsTorchsToTheBit) {
  torch::manual_seed(5);
  const OptimizerSettings settings{.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.03};
  torch::Tensor x = torch::randn({7, 33}).requires_grad_(), y = x.detach().clone().requires_grad_();
  Optimizer optimizer({{"x", x}}, settings);
  torch::optim::AdamWOptions options(0.0);
  options.betas({0.8, 0.95}).eps(1e-6).weight_decay(0.03);
  torch::optim::AdamW theirs(std::vector<torch::Tensor>{y}, options);
  for (int step = 0; step < 12; ++step) {
    const double rate = 0.01 * (step + 1);
    x.mutable_grad() = torch::randn({7, 33});
    y.mutable_grad() = x.grad().clone();
    optimizer.step(rate);
    theirs.param_groups()[0].options().set_lr(rate);
    theirs.step();
    ASSERT_TRUE(torch::equal(x, y)) << step;
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
  const OptimizerSettings settings{.weight_decay = 0.1};
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

constexpr OptimizerKind kKinds[] = {OptimizerKind::kAdamW, OptimizerKind::kAdamW8bit, OptimizerKind::kAdafactor,
                                    OptimizerKind::kLion, OptimizerKind::kMuon};

OptimizerSettings settings_of(OptimizerKind kind) {
  OptimizerSettings settings{.kind = kind, .weight_decay = 0.1};
  if (kind == OptimizerKind::kAdamW8bit) settings.options.min_8bit_size = 100;
  if (kind == OptimizerKind::kAdafactor) settings.options.beta1 = 0.9;
  return settings;
}

// A matrix, a vector and a matrix that has no gradient in every other step, whose own step count then matters.
struct Parameters {
  NamedTensors named = {{"q_proj.lora_A.weight", torch::ones({4, 75}).requires_grad_()},
                        {"q_proj.lora_magnitude_vector", torch::ones({5}).requires_grad_()},
                        {"o_proj.lora_B.weight", torch::ones({130, 2}).requires_grad_()}};

  void set_gradients(int step) {
    torch::manual_seed(static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < named.size(); ++i) {
      torch::Tensor& gradient = named[i].second.mutable_grad();
      gradient = torch::randn_like(named[i].second.detach());
      if (i == 2 && step % 2 == 0) gradient.reset();
    }
  }
};

TEST(Optimizer, EveryKindGoesOnFromItsStateToTheSameBits) {
  for (const OptimizerKind kind : kKinds) {
    SCOPED_TRACE(optimizer_names()[static_cast<std::size_t>(kind)]);
    const test::TempFolder folder;
    Parameters whole, resumed;
    Optimizer optimizer(whole.named, settings_of(kind));
    const auto steps = [](Parameters& parameters, Optimizer& some, int from, int to) {
      for (int step = from; step < to; ++step) {
        parameters.set_gradients(step);
        some.step(0.01);
      }
    };
    steps(whole, optimizer, 0, 4);
    io::save_safetensors(folder / "state", optimizer.state());
    for (std::size_t i = 0; i < whole.named.size(); ++i)
      resumed.named[i].second = whole.named[i].second.detach().clone().requires_grad_();
    Optimizer again(resumed.named, settings_of(kind));
    StateFile file(folder / "state");
    again.load_state(file);
    file.finish();
    steps(whole, optimizer, 4, 7);
    steps(resumed, again, 4, 7);
    for (std::size_t i = 0; i < whole.named.size(); ++i) {
      EXPECT_TRUE(torch::equal(whole.named[i].second, resumed.named[i].second)) << whole.named[i].first;
      EXPECT_FALSE(torch::equal(whole.named[i].second, torch::ones_like(whole.named[i].second)));
    }
  }
}

// A state of another optimizer is no state of this one.
TEST(Optimizer, AStateOfAnotherKindIsRefusedByName) {
  const test::TempFolder folder;
  Parameters parameters;
  Optimizer lion(parameters.named, settings_of(OptimizerKind::kLion));
  parameters.set_gradients(1);
  lion.step(0.01);
  io::save_safetensors(folder / "state", lion.state());
  Optimizer adamw(parameters.named, settings_of(OptimizerKind::kAdamW));
  StateFile file(folder / "state");
  EXPECT_TRUE(test::says(test::error_of([&] { adamw.load_state(file); }), "tensor 'exp_avg_sq.q_proj.lora_A.weight'"));
}

TEST(Optimizer, GroupsHaveRatesOfTheirOwn) {
  Parameters a, b;
  OptimizerSettings settings{.learning_rate = 0.1};
  settings.groups = {{"bs", {"lora_B"}, 0.4}, {"rest of o", {"o_proj"}, 9.0}};
  Optimizer grouped(a.named, settings), plain(b.named, {});
  a.set_gradients(1);
  b.set_gradients(1);
  grouped.step(0.05);
  plain.step(0.05);
  EXPECT_TRUE(torch::equal(a.named[0].second, b.named[0].second));
  const torch::Tensor moved = a.named[2].second.detach() - 1, once = b.named[2].second.detach() - 1;
  EXPECT_TRUE(torch::allclose(moved, once * 4, 1e-5, 1e-6)) << "the first group that matches counts";
  settings.groups = {{"typo", {"lora_C"}, 0.4}};
  EXPECT_TRUE(test::says(test::error_of([&] { Optimizer(a.named, settings); }), "modules of 'typo'"));
}

TEST(Optimizer, NormsAndBiasesDoNotDecay) {
  for (const char* name :
       {"layers.0.input_layernorm.weight", "model.norm.weight", "q_norm.weight", "q_proj.bias", "embed.RMSNorm.weight"})
    EXPECT_FALSE(decays(name)) << name;
  for (const char* name : {"layers.0.self_attn.q_proj.lora_A.weight", "normal.weight", "q_normed.weight"})
    EXPECT_TRUE(decays(name)) << name;
}

TEST(AdamW8bit, CodesAreTheNearestValuesOfABlock) {
  torch::manual_seed(2);
  for (const bool is_signed : {true, false}) {
    const torch::Tensor map = dynamic_map(is_signed);
    ASSERT_EQ(map.size(0), 256);
    EXPECT_EQ(map[255].item<float>(), 1.0f);
    EXPECT_TRUE((map.narrow(0, 1, 255) > map.narrow(0, 0, 255)).all().item<bool>());
    torch::Tensor values = torch::randn({3, 211});
    if (!is_signed) values = values.square();
    values[1].zero_();  // makes no block of zeros, but zeros in blocks
    const BlockCodes blocks = quantize_blocks(values, map);
    EXPECT_EQ(blocks.absmax.size(0), 3);
    const torch::Tensor flat = values.flatten(), back = dequantize_blocks(blocks, map).flatten();
    for (std::int64_t i = 0; i < flat.size(0); ++i) {
      const double scale = blocks.absmax[i / kMomentBlock].item<double>(), value = flat[i].item<double>();
      const double nearest = (map.to(torch::kDouble) * scale - value).abs().min().item<double>();
      EXPECT_NEAR(std::abs(back[i].item<double>() - value), nearest, 1e-6 * scale) << i;
    }
  }
  const BlockCodes zeros = quantize_blocks(torch::zeros({256}), dynamic_map(true));
  EXPECT_EQ(dequantize_blocks(zeros, dynamic_map(true)).abs().sum().item<float>(), 0.0f);
}

TEST(AdamW8bit, SmallParametersKeepFloatMoments) {
  Parameters parameters;
  parameters.set_gradients(1);
  Optimizer optimizer(parameters.named, settings_of(OptimizerKind::kAdamW8bit));
  optimizer.step(0.1);
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : optimizer.state()) state[name] = tensor;
  EXPECT_EQ(state.at("exp_avg.q_proj.lora_A.weight").scalar_type(), torch::kByte);
  EXPECT_EQ(state.at("exp_avg_absmax.q_proj.lora_A.weight").sizes(), torch::IntArrayRef({2}));
  EXPECT_EQ(state.at("exp_avg.q_proj.lora_magnitude_vector").scalar_type(), torch::kFloat);
}

TEST(Muon, SingularValuesComeNearOne) {
  torch::manual_seed(4);
  for (const auto& shape : {std::vector<std::int64_t>{6, 40}, {40, 6}}) {
    const torch::Tensor matrix = torch::randn(shape);
    const torch::Tensor made = orthogonalized(matrix, 5).to(torch::kFloat);
    EXPECT_EQ(made.sizes(), matrix.sizes());
    const torch::Tensor gram = shape[0] < shape[1] ? made.mm(made.t()) : made.t().mm(made);
    const torch::Tensor squares = at::linalg_eigvalsh(gram);
    EXPECT_GT(squares.min().item<double>(), 0.4);
    EXPECT_LT(squares.max().item<double>(), 1.6);
  }
  EXPECT_EQ(orthogonalized(torch::zeros({2, 3}), 5).abs().sum().item<float>(), 0.0f);
}

TEST(Muon, MovesMatricesOfLinearLayersAlone) {
  const torch::Tensor matrix = torch::ones({2, 3});
  EXPECT_TRUE(takes_muon("x.q_proj.lora_A.weight", matrix));
  EXPECT_FALSE(takes_muon("x.embed_tokens.lora_embedding_A", matrix));
  EXPECT_FALSE(takes_muon("x.lm_head.weight", matrix));
  EXPECT_FALSE(takes_muon("x.q_proj.lora_A.weight", torch::ones({2})));
}

}  // namespace
}  // namespace bezel::train
