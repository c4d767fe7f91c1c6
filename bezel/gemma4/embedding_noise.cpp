#include "bezel/gemma4/embedding_noise.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/kernels/random_rows.h"
#include "bezel/nn/random_keys.h"

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
  const nn::RandomKeys& keys = nn::RandomKeys::current();
  const torch::Tensor rows = keys.of_rows(embeds.size(0) * embeds.size(1), embeds.device());
  const torch::Tensor noise = kernels::uniform_rows(keys.of_site(nn::site_key("neftune")), rows, embeds.size(2));
  return embeds + noise.mul_(2 * most).sub_(most).to(embeds.scalar_type()).view(embeds.sizes());
}

}  // namespace bezel::gemma4
