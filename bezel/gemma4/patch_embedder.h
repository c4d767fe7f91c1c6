#pragma once

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/encoder.h"
#include "bezel/nn/layer_norm.h"
#include "bezel/nn/linear.h"

/// What the unified model (12B) has in place of towers.
namespace bezel::gemma4 {

/// Encoder of images without attention: LayerNorm and projection of each patch, plus the embeddings of its column and
/// row. Reference: Gemma4UnifiedVisionEmbedder, of which the projector is a child here too.
class PatchEmbedderModelImpl : public Encoder {
 public:
  explicit PatchEmbedderModelImpl(const VisionConfig& config);

  torch::Tensor encode(const input::Media& image, torch::ScalarType dtype) override;

  nn::LayerNorm patch_ln1{nullptr}, patch_ln2{nullptr}, pos_norm{nullptr};
  nn::Linear patch_dense{nullptr};
  torch::Tensor pos_embedding;  // [position_embedding_size, 2, H], of columns and of rows
};

/// Encoder of audio without a weight: each frame of samples is a soft token. Reference: what
/// Gemma4UnifiedModel::get_audio_features projects.
class RawFramesImpl : public Encoder {
 public:
  explicit RawFramesImpl(const AudioConfig& config) : Encoder(config.hidden_size, config.rms_norm_eps) {}

  torch::Tensor encode(const input::Media& clip, torch::ScalarType dtype) override;
};

}  // namespace bezel::gemma4
