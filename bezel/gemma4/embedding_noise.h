#pragma once

#include <torch/types.h>

namespace bezel::gemma4 {

/// While one lives, token embeddings that this thread looks up get noise: uniform between -alpha / sqrt(T H) and
/// alpha / sqrt(T H) for a batch [B, T, H], by this thread's nn::RandomKeys; alpha 0: no noise. Soft tokens of media
/// get no noise. References: Jain et al., "NEFTune"; transformers' neftune_post_forward_hook.
class EmbeddingNoise {
 public:
  explicit EmbeddingNoise(double alpha);
  ~EmbeddingNoise();
  EmbeddingNoise(const EmbeddingNoise&) = delete;
  EmbeddingNoise& operator=(const EmbeddingNoise&) = delete;

  /// `embeds` [B, T, H], with noise where it is enabled.
  static torch::Tensor add(const torch::Tensor& embeds);

 private:
  double outer_;
};

}  // namespace bezel::gemma4
