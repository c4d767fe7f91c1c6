#include "bezel/gemma4/embedding_noise.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>

namespace bezel::gemma4 {
namespace {

thread_local double noise_alpha = 0.0;

}  // namespace

EmbeddingNoise::EmbeddingNoise(double alpha) : outer_(std::exchange(noise_alpha, alpha)) {}

EmbeddingNoise::~EmbeddingNoise() { noise_alpha = outer_; }

torch::Tensor EmbeddingNoise::add(const torch::Tensor& embeds) {
  if (noise_alpha == 0.0) return embeds;
  // In float32, as the reference rounds it.
  const auto elements = static_cast<float>(embeds.size(1) * embeds.size(2));
  const double most = static_cast<float>(noise_alpha) / std::sqrt(elements);
  return embeds + at::zeros_like(embeds).uniform_(-most, most);
}

}  // namespace bezel::gemma4
