#include "bezel/gemma4/embedding_noise.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace bezel::gemma4 {
namespace {

TEST(EmbeddingNoise, IsUniformWithinItsBoundWhileItLives) {
  const torch::Tensor embeds = at::ones({2, 50, 40});
  {
    const EmbeddingNoise outer(5.0);
    {
      const EmbeddingNoise none(0.0);
      EXPECT_TRUE(torch::equal(EmbeddingNoise::add(embeds), embeds));
    }
    const torch::Tensor noise = EmbeddingNoise::add(embeds) - embeds;
    const double most = 5.0 / std::sqrt(50.0 * 40.0);
    EXPECT_LT(noise.abs().max().item<double>(), most * (1 + 1e-4));
    EXPECT_GT(noise.abs().max().item<double>(), most * 0.99);
    EXPECT_NEAR(noise.square().mean().item<double>(), most * most / 3, most * most * 0.02);
  }
  EXPECT_TRUE(torch::equal(EmbeddingNoise::add(embeds), embeds));
}

TEST(EmbeddingNoise, IsDrawnFromTheDefaultGenerator) {
  const torch::Tensor embeds = at::zeros({1, 3, 4});
  const EmbeddingNoise noise(1.0);
  torch::manual_seed(9);
  const torch::Tensor first = EmbeddingNoise::add(embeds), second = EmbeddingNoise::add(embeds);
  EXPECT_FALSE(torch::equal(first, second));
  torch::manual_seed(9);
  EXPECT_TRUE(torch::equal(EmbeddingNoise::add(embeds), first));
}

}  // namespace
}  // namespace bezel::gemma4
