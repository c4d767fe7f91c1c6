#include "bezel/nn/experts.h"

#include <set>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "bezel/nn/expert_load.h"
#include "bezel/nn/row_groups.h"
#include "support/relative_error.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

constexpr std::int64_t kHidden = 6, kExpertWidth = 5, kTopK = 2, kRank = 3;

Tensor int64s(std::vector<std::int64_t> values, std::vector<std::int64_t> shape) {
  return at::tensor(values, torch::kLong).view(shape);
}

Adapter random_adapter(std::int64_t num_experts, std::int64_t in, std::int64_t out) {
  return {.a = torch::randn({num_experts * kRank, in}).requires_grad_(),
          .b = torch::randn({out, kRank * num_experts}).requires_grad_(),
          .scale = 0.7,
          .dropout = 0.0};
}

// W + scale * B A of one expert, in plain autograd, with the indices of PEFT's ParamWrapper.get_delta_weight.
Tensor merged(const Tensor& stack, const std::optional<Adapter>& adapter, std::int64_t expert) {
  if (!adapter) return stack[expert];
  const std::int64_t experts = stack.size(0);
  const Tensor a = adapter->a.reshape({experts, -1, adapter->a.size(1)});
  const Tensor b = adapter->b.reshape({adapter->b.size(0), -1, experts});
  return stack[expert] + at::einsum("ore,eri->eoi", {b, a})[expert] * adapter->scale;
}

struct Mixture {
  explicit Mixture(std::int64_t num_experts) : experts(num_experts, kHidden, kExpertWidth) {
    gate_up = torch::randn({num_experts, 2 * kExpertWidth, kHidden});
    down = torch::randn({num_experts, kHidden, kExpertWidth});
    experts.gate_up_proj.weight = quant::dense_weight(gate_up, "gate_up");
    experts.down_proj.weight = quant::dense_weight(down, "down");
  }
  void adapt(bool first, bool second) {
    if (first) experts.gate_up_proj.adapter = random_adapter(gate_up.size(0), kHidden, 2 * kExpertWidth);
    if (second) experts.down_proj.adapter = random_adapter(gate_up.size(0), kExpertWidth, kHidden);
  }
  std::vector<Tensor> adapters() const {
    std::vector<Tensor> out;
    for (const ExpertStack* stack : {&experts.gate_up_proj, &experts.down_proj})
      if (stack->adapter) out.insert(out.end(), {stack->adapter->a, stack->adapter->b});
    return out;
  }
  // Row by row and expert by expert.
  Tensor naive(const Tensor& x, const Tensor& chosen, const Tensor& weight) const {
    std::vector<Tensor> rows;
    for (std::int64_t n = 0; n < x.size(0); ++n) {
      Tensor sum = at::zeros({kHidden});
      for (std::int64_t k = 0; k < chosen.size(1); ++k) {
        const auto expert = chosen[n][k].item<std::int64_t>();
        const Tensor both = merged(gate_up, experts.gate_up_proj.adapter, expert).mv(x[n]);
        const Tensor act = at::gelu(both.slice(0, 0, kExpertWidth), "tanh") * both.slice(0, kExpertWidth);
        sum = sum + weight[n][k] * merged(down, experts.down_proj.adapter, expert).mv(act);
      }
      rows.push_back(sum);
    }
    return at::stack(rows);
  }

  Tensor gate_up, down;
  StackedExperts experts;
};

struct ExpertsCase {
  bool adapts_first, adapts_second, wants_input;
  std::int64_t num_experts;
};

class ExpertsParity : public testing::TestWithParam<ExpertsCase> {};

TEST_P(ExpertsParity, ForwardAndGradientsEqualTheFormula) {
  torch::manual_seed(11);
  const auto [first, second, wants_input, num_experts] = GetParam();
  Mixture mixture(num_experts);
  mixture.adapt(first, second);
  const std::int64_t rows = num_experts;  // some experts get several rows, some none
  const Tensor x = torch::randn({rows, kHidden}).requires_grad_(wants_input);
  const Tensor weight = torch::rand({rows, kTopK}).requires_grad_(wants_input);
  const Tensor chosen = std::get<1>(torch::rand({rows, num_experts}).topk(kTopK, -1));
  const Tensor got = mixture.experts.forward(x, chosen, weight), wanted = mixture.naive(x, chosen, weight);
  EXPECT_LE(test::relative_error(got, wanted), 1e-6);
  std::vector<Tensor> inputs = mixture.adapters();
  if (wants_input) inputs.insert(inputs.end(), {x, weight});
  const Tensor dy = torch::randn_like(got);
  const auto found = torch::autograd::grad({got}, inputs, {dy});
  const auto expected = torch::autograd::grad({wanted}, inputs, {dy});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_TRUE(found[i].defined()) << i;
    EXPECT_EQ(found[i].sizes(), inputs[i].sizes());
    EXPECT_GT(expected[i].norm().item<double>(), 0.0) << i;
    EXPECT_LE(test::relative_error(found[i], expected[i]), 1e-5) << i;
  }
}

// 64 experts: with a few threads each takes groups of its own.
INSTANTIATE_TEST_SUITE_P(Adapters, ExpertsParity,
                         testing::Values(ExpertsCase{false, false, true, 5}, ExpertsCase{true, false, true, 5},
                                         ExpertsCase{false, true, true, 5}, ExpertsCase{true, true, true, 5},
                                         ExpertsCase{true, true, false, 5}, ExpertsCase{true, false, false, 5},
                                         ExpertsCase{false, true, false, 5}, ExpertsCase{true, true, true, 64}));

TEST(Experts, InBfloat16AreTheFormulaRounded) {
  torch::manual_seed(4);
  constexpr std::int64_t kExperts = 32, kRows = 96;
  StackedExperts experts(kExperts, 128, 64);
  const auto narrow = at::TensorOptions(torch::kBFloat16);
  const Tensor gate_up = torch::randn({kExperts, 128, 128}).div(11).to(narrow.dtype());
  const Tensor down = torch::randn({kExperts, 128, 64}).div(8).to(narrow.dtype());
  experts.gate_up_proj = {quant::dense_weight(gate_up, "gate_up"),
                          Adapter{torch::randn({kExperts * 4, 128}).div(11).requires_grad_(),
                                  torch::randn({128, 4 * kExperts}).div(2).requires_grad_(), 0.5, 0.0}};
  experts.down_proj = {quant::dense_weight(down, "down"),
                       Adapter{torch::randn({kExperts * 4, 64}).div(8).requires_grad_(),
                               torch::randn({128, 4 * kExperts}).div(2).requires_grad_(), 0.5, 0.0}};
  StackedExperts wide(kExperts, 128, 64);
  wide.gate_up_proj = {quant::dense_weight(gate_up.to(torch::kFloat), "gate_up"), experts.gate_up_proj.adapter};
  wide.down_proj = {quant::dense_weight(down.to(torch::kFloat), "down"), experts.down_proj.adapter};
  const Tensor x = torch::randn({kRows, 128}).to(torch::kBFloat16), weight = torch::rand({kRows, kTopK});
  const Tensor chosen = std::get<1>(torch::rand({kRows, kExperts}).topk(kTopK, -1)), dy = torch::randn({kRows, 128});
  const auto run = [&](StackedExperts& layer, torch::ScalarType dtype) {
    const Tensor in = x.to(dtype).detach().requires_grad_(), w = weight.clone().requires_grad_();
    const Tensor y = layer.forward(in, chosen, w);
    std::vector<Tensor> inputs{in, w};
    for (const ExpertStack* stack : {&layer.gate_up_proj, &layer.down_proj})
      inputs.insert(inputs.end(), {stack->adapter->a, stack->adapter->b});
    std::vector<Tensor> out = torch::autograd::grad({y}, inputs, {dy.to(dtype)});
    out.push_back(y);
    return out;
  };
  const auto got = run(experts, torch::kBFloat16), wanted = run(wide, torch::kFloat);
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(test::relative_error(got[i].to(torch::kFloat), wanted[i].to(torch::kFloat)), 1.5e-2) << i;
}

// A matrix that notes which experts were asked for.
class WatchedStack final : public quant::Weight {
 public:
  explicit WatchedStack(const Tensor& stack) : inner_(quant::dense_weight(stack, "stack")) {}
  std::vector<std::int64_t> shape() const override { return inner_->shape(); }
  torch::Device device() const override { return inner_->device(); }
  std::int64_t bytes() const override { return inner_->bytes(); }
  std::string storage() const override { return inner_->storage(); }
  Tensor matmul(const Tensor&) const override { throw std::logic_error("the whole stack"); }
  Tensor matmul_transposed(const Tensor&) const override { throw std::logic_error("the whole stack"); }
  Tensor rows(const Tensor&, torch::ScalarType) const override { throw std::logic_error("the whole stack"); }
  Tensor dequantize(torch::ScalarType) const override { throw std::logic_error("the whole stack"); }
  std::shared_ptr<const Weight> select(std::int64_t expert) const override {
    asked.insert(expert);
    return inner_->select(expert);
  }
  std::shared_ptr<const Weight> to(torch::Device) const override { throw std::logic_error("moved"); }

  mutable std::set<std::int64_t> asked;

 private:
  std::shared_ptr<const quant::Weight> inner_;
};

TEST(Experts, WithoutRowsAreNotTouched) {
  torch::manual_seed(2);
  Mixture mixture(6);
  mixture.adapt(true, true);
  const auto first = std::make_shared<WatchedStack>(mixture.gate_up);
  // A NaN in an expert that no row goes to is not even read.
  mixture.down[3][0][0] = NAN;
  const auto second = std::make_shared<WatchedStack>(mixture.down);
  mixture.experts.gate_up_proj.weight = first;
  mixture.experts.down_proj.weight = second;
  const Tensor x = torch::randn({2, kHidden}).requires_grad_();
  const Tensor y = mixture.experts.forward(x, int64s({4, 1, 1, 4}, {2, 2}), torch::rand({2, kTopK}));
  y.sum().backward();
  EXPECT_EQ(first->asked, (std::set<std::int64_t>{1, 4}));
  EXPECT_EQ(second->asked, (std::set<std::int64_t>{1, 4}));
  // Their gradients are zero, as PEFT's are, not missing: an optimizer decays them too.
  const Tensor da = mixture.experts.gate_up_proj.adapter->a.grad().view({6, kRank, kHidden});
  const Tensor db = mixture.experts.down_proj.adapter->b.grad().view({kHidden, kRank, 6});
  for (const std::int64_t expert : {0, 1, 2, 3, 4, 5}) {
    const bool took_part = expert == 1 || expert == 4;
    EXPECT_EQ(da[expert].norm().item<double>() > 0, took_part) << expert;
    EXPECT_EQ(db.select(2, expert).norm().item<double>() > 0, took_part) << expert;
  }
}

TEST(Experts, RunTheSameWithOneThread) {
  torch::manual_seed(8);
  Mixture mixture(64);
  mixture.adapt(true, true);
  const Tensor x = torch::randn({64, kHidden}), weight = torch::rand({64, kTopK});
  const Tensor chosen = std::get<1>(torch::rand({64, 64}).topk(kTopK, -1));
  const Tensor several = mixture.experts.forward(x, chosen, weight);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = mixture.experts.forward(x, chosen, weight);
  at::set_num_threads(threads);
  EXPECT_LE(test::relative_error(several, one), 1e-6);
}

TEST(Experts, AreCountedWhileSomeoneCounts) {
  Mixture mixture(4);
  const Tensor x = torch::randn({3, kHidden}), weight = torch::rand({3, kTopK});
  const Tensor chosen = int64s({0, 2, 2, 0, 2, 3}, {3, 2});
  mixture.experts.forward(x, chosen, weight);
  const ExpertCounting counting;
  mixture.experts.forward(x, chosen, weight);
  mixture.experts.forward(x, chosen, weight);
  EXPECT_EQ(counting.counts().at(&mixture.experts), (std::vector<std::int64_t>{4, 0, 6, 2}));
}

TEST(RowGroups, KeepTheOrderOfTheRows) {
  const RowGroups rows = group_rows(int64s({2, 0, 2, 1, 0, 2}, {3, 2}), 4);
  ASSERT_EQ(rows.groups.size(), 3u);
  const std::vector<std::array<std::int64_t, 3>> wanted{{0, 0, 2}, {1, 2, 1}, {2, 3, 3}};
  for (std::size_t i = 0; i < wanted.size(); ++i)
    EXPECT_EQ((std::array{rows.groups[i].expert, rows.groups[i].begin, rows.groups[i].count}), wanted[i]);
  EXPECT_TRUE(torch::equal(rows.slot, int64s({1, 4, 3, 0, 2, 5}, {6})));
  EXPECT_TRUE(torch::equal(rows.source, int64s({0, 2, 1, 0, 1, 2}, {6})));
  EXPECT_TRUE(torch::equal(rows.place.index_select(0, rows.slot), at::arange(6)));
  EXPECT_THROW(group_rows(int64s({4}, {1, 1}), 4), c10::Error);
}

TEST(RowGroups, SumsOfExpertsEqualThePlainOnes) {
  torch::manual_seed(1);
  const Tensor place = at::randperm(20);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor z = torch::randn({20, 33}).to(dtype), weight = torch::rand({5, 4});
    const double bound = dtype == torch::kFloat ? 1e-6 : 8e-3;
    EXPECT_LE(test::relative_error(sum_of_experts(z, place, weight, 5).to(torch::kFloat),
                                   sum_of_experts_plain(z, place, weight, 5).to(torch::kFloat)),
              bound);
    EXPECT_LE(test::relative_error(sum_of_experts(z, place, {}, 5).to(torch::kFloat),
                                   sum_of_experts_plain(z, place, {}, 5).to(torch::kFloat)),
              bound);
  }
}

}  // namespace
}  // namespace bezel::nn
