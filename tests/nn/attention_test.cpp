#include "bezel/nn/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "bezel/kernels/one_query_attention.h"
#include "bezel/nn/blocked_attention.h"
#include "support/relative_error.h"

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
  for (const KeyRanges& mask : some_ranges(9)) {
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
    const auto fast = grads([&](auto& a, auto& b, auto& c) { return attention(a, b, c, mask); });
    const auto plain = grads([&](auto& a, auto& b, auto& c) { return attention_plain(a, b, c, mask); });
    for (std::size_t i = 0; i < fast.size(); ++i) EXPECT_TRUE(torch::allclose(fast[i], plain[i], 1e-4, 1e-5)) << i;
  }
}

// Keys that are the first of a longer cache, heads that share them by one to six, numbers that fill no vector.
TEST(Attention, OfOneQueryIsPlainWithinARounding) {
  torch::manual_seed(6);
  const at::NoGradGuard no_grad;
  for (const std::int64_t batch : {1, 2})
    for (const std::int64_t kv_heads : {1, 2})
      for (const std::int64_t group : {1, 2, 3, 6})
        for (const std::int64_t keys : {1, 5, 16, 33, 560}) {
          const auto random = [&](std::int64_t heads, std::int64_t count) {
            return torch::randn({batch, heads, count, 96}).to(torch::kBFloat16);
          };
          const Tensor q = random(kv_heads * group, 1) / 4;
          const Tensor k = random(kv_heads, keys + 3).narrow(2, 0, keys),
                       v = random(kv_heads, keys + 3).narrow(2, 0, keys);
          ASSERT_TRUE(kernels::has_one_query_attention(q, k, v));
          const Tensor got = attention(q, k, v, {}).to(torch::kDouble);
          const auto wide = [](const Tensor& x) { return x.to(torch::kDouble); };
          const Tensor wanted = attention_plain(wide(q), wide(k), wide(v), {});
          EXPECT_EQ(got.sizes(), wanted.sizes());
          EXPECT_TRUE(((got - wanted).abs() <= wanted.abs() / 256 + 1e-5).all().item<bool>()) << group << ", " << keys;
        }
}

TEST(Attention, OfOneQueryWithScoresThatDifferByHundredsStaysFinite) {
  const at::NoGradGuard no_grad;
  const Tensor q = torch::full({1, 1, 1, 32}, 10.0, torch::kBFloat16);
  Tensor k = torch::zeros({1, 1, 20, 32}, torch::kBFloat16);
  k[0][0][7].fill_(3.0);
  k[0][0][8].fill_(-3.0);
  const Tensor v = torch::randn({1, 1, 20, 32}).to(torch::kBFloat16);
  EXPECT_TRUE(torch::equal(attention(q, k, v, {})[0][0], v[0][0][7]));
}

TEST(Attention, RowWithoutKeysStaysFinite) {
  const Tensor q = torch::randn({1, 1, 3, 4}), none = torch::zeros({1, 3}, at::kLong);
  EXPECT_TRUE(attention(q, q, q, {none, none}).isfinite().all().item<bool>());
}

// Gradients of q, k and v of attention over `mask`, given the gradient of its result.
std::vector<Tensor> attention_gradients(const std::vector<Tensor>& qkv, const KeyRanges& mask, const Tensor& dy) {
  std::vector<Tensor> in;
  for (const Tensor& x : qkv) in.push_back(x.detach().clone().requires_grad_());
  return torch::autograd::grad({attention(in[0], in[1], in[2], mask)}, in, {dy});
}

TEST(Attention, RowWithoutKeysHasNoGradient) {
  torch::manual_seed(5);
  const std::int64_t tokens = 40, padding = 17;
  const Tensor real = torch::ones({1, tokens}, at::kBool);
  real.narrow(1, 0, padding).fill_(false);
  const KeyRanges mask = key_ranges({.num_keys = tokens, .attention_mask = real}, torch::kCPU);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    std::vector<Tensor> qkv;
    for (int i = 0; i < 3; ++i) qkv.push_back((torch::randn({1, 2, tokens, 64}) * 4).to(dtype));
    const Tensor dy = torch::randn({1, tokens, 128}).to(dtype);
    const auto with = attention_gradients(qkv, mask, dy);
    dy.narrow(1, 0, padding).zero_();
    const auto without = attention_gradients(qkv, mask, dy);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(with[i].isfinite().all().item<bool>()) << dtype << i;
      EXPECT_TRUE(with[i].equal(without[i])) << dtype << i;
      EXPECT_GT(with[i].abs().sum().item<double>(), 0) << dtype << i;
    }
  }
}

// Attention in bfloat16 and its gradients against the formula in float32, from the same bfloat16 values.
void expect_bfloat_equals_formula(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& mask) {
  std::vector<Tensor> narrow, wide;
  for (const Tensor& x : {q, k, v}) {
    narrow.push_back(x.to(torch::kBFloat16).requires_grad_());
    wide.push_back(narrow.back().detach().to(torch::kFloat).requires_grad_());
  }
  const Tensor got = attention(narrow[0], narrow[1], narrow[2], mask);
  const Tensor wanted = attention_plain(wide[0], wide[1], wide[2], mask);
  // A row without keys may hold anything, so nothing may ask for it.
  Tensor dy = torch::randn(wanted.sizes()).to(torch::kBFloat16), compared = torch::ones({1, q.size(2), 1});
  if (mask.end.defined()) compared = (mask.end > mask.first).unsqueeze(2).to(torch::kFloat);
  dy = dy * compared.to(torch::kBFloat16);
  got.backward(dy);
  wanted.backward(dy.to(torch::kFloat));
  EXPECT_LE(test::relative_error(got * compared, wanted * compared), 1e-2);  // a few roundings to bfloat16
  EXPECT_TRUE(got.isfinite().all().item<bool>());
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_LE(test::relative_error(narrow[i].grad(), wide[i].grad()), 2e-2) << "gradient " << i;
}

// Scores of the size that normalized queries and keys make.
Tensor some_heads(std::int64_t batch, std::int64_t heads, std::int64_t tokens) {
  return torch::randn({batch, tokens, heads, 64}).transpose(1, 2) * 0.6;
}

TEST(Attention, RangedBfloatAttentionAndItsGradientsEqualTheFloatFormula) {
  torch::manual_seed(8);
  const std::int64_t tokens = 300;
  const Tensor types = torch::zeros({2, tokens}, at::kLong), real = torch::ones({2, tokens}, at::kBool);
  types.narrow(1, 20, 150).fill_(1);
  types[1].narrow(0, 200, 30).fill_(1);
  real[0].narrow(0, 0, 100).fill_(false);
  const Tensor sample = torch::zeros({2, tokens}, at::kLong);
  sample[0].narrow(0, 140, 160).fill_(140);
  sample[1].narrow(0, 7, 293).fill_(7);
  const Tensor asking = torch::randint(0, tokens, {2, 77}, at::kLong);
  for (const auto& [heads, kv_heads] : {std::pair{8, 1}, {4, 2}, {3, 3}, {6, 2}})
    for (const std::int64_t window : {0, 40})
      for (const MaskSpec& rule : {MaskSpec{}, MaskSpec{.attention_mask = real}, MaskSpec{.segment_start = sample},
                                   MaskSpec{.image_run_end = image_run_ends(types)}, MaskSpec{.queries = asking},
                                   MaskSpec{.attention_mask = real,
                                   .segment_start = sample,
                                   .image_run_end = image_run_ends(types, sample),
                                   .queries = asking}}) {
        MaskSpec of = rule;
        of.num_keys = tokens;
        of.window = window;
        const std::int64_t queries = rule.queries.defined() ? 77 : tokens;
        expect_bfloat_equals_formula(some_heads(2, heads, queries), some_heads(2, kv_heads, tokens),
                                     some_heads(2, kv_heads, tokens), key_ranges(of, torch::kCPU));
      }
}

// Of a row of `tokens`: a prefix, then segments of 70, 9, 1 and the rest, of which the last two share one more.
MaskSpec shared_prefix(std::int64_t tokens, std::int64_t prefix) {
  MaskSpec rule{.num_keys = tokens, .segment_start = torch::zeros({1, tokens}, at::kLong)};
  rule.prefix_begin = torch::zeros({2, 1, tokens}, at::kLong);
  rule.prefix_end = torch::zeros({2, 1, tokens}, at::kLong);
  const std::vector<std::int64_t> ends{prefix, prefix + 70, prefix + 79, prefix + 80, tokens};
  for (std::size_t i = 1; i < ends.size(); ++i) {
    const std::int64_t begin = ends[i - 1], size = ends[i] - begin;
    rule.segment_start[0].narrow(0, begin, size).fill_(begin);
    rule.prefix_end[0][0].narrow(0, begin, size).fill_(prefix);
    if (i < 3) continue;
    rule.prefix_begin[1][0].narrow(0, begin, size).fill_(ends[1]);
    rule.prefix_end[1][0].narrow(0, begin, size).fill_(ends[2]);
  }
  return rule;
}

TEST(Attention, SharedPrefixesInBfloatEqualTheFloatFormula) {
  torch::manual_seed(9);
  const std::int64_t tokens = 330;
  const Tensor asking = torch::randint(0, tokens, {1, 77}, at::kLong);
  for (const auto& [heads, kv_heads] : {std::pair{8, 1}, {4, 2}, {3, 3}})
    for (const std::int64_t prefix : {1, 64, 150})
      for (const std::int64_t window : {0, 40, 100})
        for (const Tensor& queries : {Tensor(), asking}) {
          MaskSpec rule = shared_prefix(tokens, prefix);
          rule.window = window;
          rule.queries = queries;
          expect_bfloat_equals_formula(some_heads(1, heads, queries.defined() ? 77 : tokens),
                                       some_heads(1, kv_heads, tokens), some_heads(1, kv_heads, tokens),
                                       key_ranges(rule, torch::kCPU));
        }
}

// Attention in blocks and its gradients against the plain form.
void expect_blocks_equal_plain(const std::vector<Tensor>& qkv, const KeyRanges& mask) {
  const std::int64_t queries = qkv[0].size(2);
  // A row without keys may hold anything, so nothing may ask for it.
  const Tensor asked = (mask.end > mask.first).unsqueeze(2).to(torch::kFloat);
  const Tensor dy = torch::randn({qkv[0].size(0), queries, qkv[0].size(1) * qkv[0].size(3)}) * asked;
  std::vector<Tensor> fast, plain;
  for (const Tensor& x : qkv) {
    fast.push_back(x.detach().clone().requires_grad_());
    plain.push_back(x.detach().clone().requires_grad_());
  }
  const Tensor got = blocked_attention(fast[0], fast[1], fast[2], mask).transpose(1, 2).flatten(2);
  const Tensor wanted = attention_plain(plain[0], plain[1], plain[2], mask);
  got.backward(dy);
  wanted.backward(dy);
  EXPECT_LE(test::relative_error(got * asked, wanted * asked), 2e-6);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_LE(test::relative_error(fast[i].grad(), plain[i].grad()), 2e-6) << i;
}

TEST(Attention, BlocksOfFloatQueriesEqualPlainWithGradients) {
  torch::manual_seed(10);
  const std::int64_t tokens = 600, padding = 300;  // three blocks; of one row the first sees no key
  const Tensor real = torch::ones({2, tokens}, at::kBool), sample = torch::zeros({2, tokens}, at::kLong);
  real[1].narrow(0, 0, padding).fill_(false);
  sample[0].narrow(0, 300, 300).fill_(300);
  const Tensor asking = torch::randint(0, tokens, {2, 270}, at::kLong);
  const auto some = [](std::int64_t batch, std::int64_t heads, std::int64_t count) {
    return torch::randn({batch, count, heads, 24}).transpose(1, 2) * 0.6;
  };
  for (const auto& [heads, kv_heads] : {std::pair{4, 1}, {4, 2}, {3, 3}})
    for (const std::int64_t window : {0, 100}) {
      MaskSpec tree = shared_prefix(tokens, 330);
      for (MaskSpec rule :
           {MaskSpec{.attention_mask = real}, MaskSpec{.segment_start = sample},
            MaskSpec{.attention_mask = real, .segment_start = sample, .queries = asking}, std::move(tree)}) {
        rule.num_keys = tokens;
        rule.window = window;
        const std::int64_t batch = rule.prefix_begin.defined() ? 1 : 2;
        expect_blocks_equal_plain({some(batch, heads, rule.queries.defined() ? 270 : tokens),
                                   some(batch, kv_heads, tokens), some(batch, kv_heads, tokens)},
                                  key_ranges(rule, torch::kCPU));
      }
    }
}

TEST(Attention, LongRowsTakeNoMask) {
  torch::manual_seed(11);
  const std::int64_t tokens = kMostMaskedQueries + 76;
  const auto some = [tokens](std::int64_t heads) { return torch::randn({1, heads, tokens, 24}) * 0.6; };
  const KeyRanges mask = key_ranges(shared_prefix(tokens, 330), torch::kCPU);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor q = some(4).to(dtype), k = some(2).to(dtype), v = some(2).to(dtype);
    const Tensor got = attention(q, k, v, mask);
    EXPECT_FALSE(mask.made->bias.defined());
    const auto wide = [](const Tensor& x) { return x.to(torch::kFloat); };
    EXPECT_EQ(got.scalar_type(), dtype);
    EXPECT_LE(test::relative_error(wide(got), attention_plain(wide(q), wide(k), wide(v), mask)),
              dtype == torch::kFloat ? 2e-6 : 4e-3);
  }
}

}  // namespace
}  // namespace bezel::nn
