#include "bezel/nn/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

namespace bezel::nn {
namespace {

using torch::Tensor;

// What each of T queries sees: everything, causal, or a window.
std::vector<KeyRanges> some_ranges(std::int64_t tokens) {
  return {
      {}, key_ranges({.num_keys = tokens}, torch::kCPU), key_ranges({.num_keys = tokens, .window = 4}, torch::kCPU)};
}

TEST(Attention, BlockedEqualsPlainWithGradients) {
  torch::manual_seed(1);
  for (const KeyRanges& visible : some_ranges(9)) {
    Tensor q = torch::randn({2, 4, 9, 8}), k = torch::randn({2, 2, 9, 8}), v = torch::randn({2, 2, 9, 8});
    const Tensor dy = torch::randn({2, 9, 32});
    const auto grads = [&](auto&& function) {
      std::vector<Tensor> in;
      for (const Tensor& t : {q, k, v}) in.push_back(t.clone().requires_grad_());
      const Tensor y = function(in[0], in[1], in[2]);
      auto out = torch::autograd::grad({y}, in, {dy});
      out.push_back(y.detach());
      return out;
    };
    const auto fast = grads([&](auto& a, auto& b, auto& c) { return attention(a, b, c, visible); });
    const auto plain = grads([&](auto& a, auto& b, auto& c) { return attention_plain(a, b, c, visible); });
    for (std::size_t i = 0; i < fast.size(); ++i) EXPECT_TRUE(torch::allclose(fast[i], plain[i], 1e-4, 1e-5)) << i;
  }
}

TEST(Attention, RowWithoutKeysStaysFinite) {
  const Tensor q = torch::randn({1, 1, 3, 4}), none = torch::zeros({1, 3}, at::kLong);
  EXPECT_TRUE(attention(q, q, q, {none, none}).isfinite().all().item<bool>());
}

TEST(Attention, FullBfloatAttentionAndItsGradientsEqualTheFloatFormula) {
  torch::manual_seed(7);
  for (const std::int64_t tokens : {33, 90, 300}) {
    std::vector<Tensor> narrow, wide;
    for (int i = 0; i < 3; ++i) {
      narrow.push_back(torch::randn({1, 3, tokens, 16}).to(torch::kBFloat16).requires_grad_());
      wide.push_back(narrow.back().detach().to(torch::kFloat).requires_grad_());
    }
    const Tensor got = attention(narrow[0], narrow[1], narrow[2]);
    const Tensor wanted = attention_plain(wide[0], wide[1], wide[2]);
    const Tensor dy = torch::randn(wanted.sizes()).to(torch::kBFloat16);
    got.backward(dy);
    wanted.backward(dy.to(torch::kFloat));
    const auto error = [](const Tensor& a, const Tensor& b) {
      return ((a.to(torch::kFloat) - b).norm() / b.norm()).item<double>();
    };
    EXPECT_LE(error(got, wanted), 1e-2);  // a few roundings to bfloat16
    for (int i = 0; i < 3; ++i) EXPECT_LE(error(narrow[i].grad(), wide[i].grad()), 2e-2) << tokens << " " << i;
  }
}

}  // namespace
}  // namespace bezel::nn
