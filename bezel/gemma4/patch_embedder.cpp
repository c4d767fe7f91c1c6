#include "bezel/gemma4/patch_embedder.h"

#include "bezel/nn/functional.h"

namespace bezel::gemma4 {

using torch::Tensor;

PatchEmbedderModelImpl::PatchEmbedderModelImpl(const VisionConfig& config)
    : Encoder(config.hidden_size, config.rms_norm_eps) {
  const std::int64_t pixels = 3 * config.patch_size * config.patch_size;
  patch_ln1 = register_module("patch_ln1", nn::LayerNorm(pixels));
  // Google's quantized checkpoints leave it in bfloat16.
  patch_dense = register_module("patch_dense", nn::Linear(pixels, config.hidden_size,
                                                          nn::LinearImpl::Options{.bias = true, .quantizable = false}));
  patch_ln2 = register_module("patch_ln2", nn::LayerNorm(config.hidden_size));
  pos_norm = register_module("pos_norm", nn::LayerNorm(config.hidden_size));
  expect("pos_embedding", {config.position_embedding_size, 2, config.hidden_size}, pos_embedding);
}

// Pixels stay in [0, 1]: the towers of the other sizes move them to [-1, 1].
Tensor PatchEmbedderModelImpl::encode(const input::Media& image, torch::ScalarType dtype) {
  const auto axis = [&](std::int64_t i) {
    return nn::gather_rows(pos_embedding.select(1, i), image.layout.select(1, i));
  };
  const Tensor patches = patch_ln2(patch_dense(patch_ln1(image.features.to(dtype))));  // [M, H]
  return pos_norm(patches + (axis(0) + axis(1)));
}

Tensor RawFramesImpl::encode(const input::Media& clip, torch::ScalarType dtype) {
  return nn::gather_rows(clip.features.to(dtype), clip.soft_index);
}

}  // namespace bezel::gemma4
