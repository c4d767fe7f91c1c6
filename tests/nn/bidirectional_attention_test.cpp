#include "bezel/nn/bidirectional_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/nn/attention.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

TEST(BidirectionalAttention, AndItsGradientsEqualTheFloatFormula) {
  torch::manual_seed(7);
  // Beside whole blocks and vectors, and with more than one block of queries a block of keys.
  for (const auto& [tokens, columns] : {std::pair{1, 16}, {33, 8}, {90, 16}, {300, 72}, {640, 64}}) {
    const RopeTable rotation_of =
        rope_table(torch::randint(0, 20, {tokens, 2}), inverse_frequencies(columns / 2, 100.0, 1.0), torch::kFloat);
    const BidirectionalHeads heads{torch::rand({columns}) + 0.5, torch::rand({columns}) + 0.5, 1e-6, rotation_of};
    const RopeTable rounded{rotation_of.cos.to(torch::kBFloat16), rotation_of.sin.to(torch::kBFloat16)};
    std::vector<Tensor> narrow, wide;
    for (int i = 0; i < 3; ++i) {
      narrow.push_back(torch::randn({tokens, 3, columns}).to(torch::kBFloat16).requires_grad_());
      wide.push_back(narrow.back().detach().to(torch::kFloat).requires_grad_());
    }
    const Tensor got =
        bidirectional_attention(narrow[0], narrow[1], narrow[2], {heads.q_weight, heads.k_weight, 1e-6, rounded});
    const Tensor wanted = bidirectional_attention_plain(wide[0], wide[1], wide[2], heads);
    const Tensor dy = torch::randn(wanted.sizes()).to(torch::kBFloat16);
    got.backward(dy);
    wanted.backward(dy.to(torch::kFloat));
    const auto error = [](const Tensor& a, const Tensor& b) {
      return ((a.to(torch::kFloat) - b).norm() / b.norm()).item<double>();
    };
    EXPECT_LE(error(got, wanted), 2e-2);          // of q, k and weights to bfloat16; scores grow to ten
    for (int i = tokens > 1 ? 0 : 2; i < 3; ++i)  // one key alone: q and k do not matter
      EXPECT_LE(error(narrow[i].grad(), wide[i].grad()), 3e-2) << tokens << " " << i;
  }
}

}  // namespace
}  // namespace bezel::nn
