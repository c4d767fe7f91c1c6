#include "bezel/lora/pissa.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "bezel/error.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/linear.h"
#include "bezel/quant/weight.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

// The nearest matrix of that rank, by the SVD that PEFT takes.
Tensor nearest(const Tensor& matrix, std::int64_t rank) {
  const auto [u, s, v] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return u.narrow(1, 0, rank).mm(s.narrow(0, 0, rank).diag()).mm(v.narrow(0, 0, rank));
}

double difference(const Tensor& a, const Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

TEST(Pissa, FactorsAreTheNearestMatrixOfTheirRank) {
  torch::manual_seed(1);
  for (const auto& [out, in] : {std::pair(12, 30), std::pair(30, 12), std::pair(16, 16)}) {
    const Tensor matrix = torch::randn({out, in});
    const auto [a, b] = pissa_factors(*quant::dense_weight(matrix, "w"), 4, 2.0, {});
    EXPECT_EQ(a.sizes(), (torch::IntArrayRef{4, in}));
    EXPECT_EQ(b.sizes(), (torch::IntArrayRef{out, 4}));
    EXPECT_LT(difference(2.0 * b.mm(a), nearest(matrix, 4)), 1e-5);
    // Both halves have the roots of the singular values, as in PEFT.
    EXPECT_LT(difference(a.norm(2, {1}, false), b.norm(2, {0}, false)), 1e-5);
  }
}

TEST(Pissa, IterationsComeNearTheExactOne) {
  torch::manual_seed(2);
  const Tensor matrix = torch::randn({40, 6}).mm(torch::randn({6, 50})) + 0.01 * torch::randn({40, 50});
  const auto [a, b] = pissa_factors(*quant::dense_weight(matrix, "w"), 6, 0.5, {.iterations = 8});
  EXPECT_LT(difference(0.5 * b.mm(a), nearest(matrix, 6)), 1e-3);
}

TEST(Pissa, WordsOfTheConfig) {
  EXPECT_EQ(parse_pissa("pissa")->iterations, 0);
  EXPECT_EQ(parse_pissa("pissa_niter_16")->iterations, 16);
  for (const char* word : {"pissa_niter_", "pissa_niter_0", "pissa_niter_x", "pissa_niter_4x", "pisa", "true"})
    EXPECT_FALSE(parse_pissa(word)) << word;
  LoraConfig config;
  for (const char* init : {"pissa_niter_0", "pissa_16"}) {
    config.init_lora_weights = init;
    EXPECT_THROW(config.check(), Error) << init;
  }
  config.init_lora_weights = "pissa";
  EXPECT_NO_THROW(config.check());
  config.use_dora = true;
  EXPECT_THROW(config.check(), Error);
  config.use_dora = false;
  config.dropout = 0.1;
  EXPECT_THROW(config.check(), Error);
}

TEST(Pissa, ALayerBeginsAsItsBase) {
  torch::manual_seed(3);
  nn::Linear layer(24, 16);
  const Tensor matrix = torch::randn({16, 24});
  layer->weight = quant::dense_weight(matrix, "w");
  const auto [a, b] = pissa_factors(*layer->weight, 3, 2.0, {});
  nn::Adapter adapter{.a = a.clone().requires_grad_(), .b = b.clone().requires_grad_(), .scale = 2.0};
  adapter.start_a = a;
  adapter.start_b = b.neg();
  layer->adapter = adapter;
  const Tensor x = torch::randn({5, 24});
  EXPECT_TRUE(torch::allclose(layer(x), x.mm(matrix.t()), 1e-4, 1e-5));
  // Gradients are those of a layer over the rest of the base.
  layer(x).square().sum().backward();
  const Tensor a2 = a.clone().requires_grad_(), b2 = b.clone().requires_grad_();
  const Tensor rest = matrix - 2.0 * b.mm(a);
  (x.mm(rest.t()) + 2.0 * x.mm(a2.t()).mm(b2.t())).square().sum().backward();
  EXPECT_LT(difference(layer->adapter->a.grad(), a2.grad()), 1e-4);
  EXPECT_LT(difference(layer->adapter->b.grad(), b2.grad()), 1e-4);
}

TEST(Pissa, DoubledRanksScaleAlike) {
  for (const bool rslora : {false, true}) {
    LoraConfig config{.rank = 6, .alpha = 5, .use_rslora = rslora, .init_lora_weights = "pissa"};
    config.rank_pattern = {{"q_proj", 3}};
    const double scale = config.scale(6, 5);
    double_ranks(config);
    EXPECT_EQ(config.rank, 12);
    EXPECT_EQ(config.rank_pattern[0].second, 6);
    EXPECT_NEAR(config.scale(config.rank, config.alpha), scale, 1e-12);
    EXPECT_EQ(config.init_lora_weights, "true");
  }
}

}  // namespace
}  // namespace bezel::lora
