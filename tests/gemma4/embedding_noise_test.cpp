#include "bezel/gemma4/embedding_noise.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/nn/random_keys.h"

namespace bezel::gemma4 {
namespace {

TEST(EmbeddingNoise, IsUniformWithinItsBoundWhileItLives) {
  const torch::Tensor embeds = at::ones({2, 50, 40});
  const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(1, 2));
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

TEST(EmbeddingNoise, FollowsSeedUpdateAndRow) {
  const torch::Tensor embeds = at::zeros({1, 3, 4});
  const EmbeddingNoise noise(1.0);
  const auto of = [&](std::uint64_t seed, std::int64_t update) {
    const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(seed, update));
    const nn::ScopedRandomKeys rows(nn::with_rows(at::tensor({5, 6, 7}, at::kLong)));
    return EmbeddingNoise::add(embeds);
  };
  const torch::Tensor wanted = of(9, 1);
  EXPECT_TRUE(torch::equal(of(9, 1), wanted));
  EXPECT_FALSE(torch::equal(of(9, 2), wanted));
  EXPECT_FALSE(torch::equal(of(8, 1), wanted));
  EXPECT_FALSE(torch::equal(wanted.select(1, 0), wanted.select(1, 1)));
}

}  // namespace
}  // namespace bezel::gemma4
