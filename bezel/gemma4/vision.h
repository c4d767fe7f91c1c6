#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/encoder.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/rms_norm.h"
#include "bezel/nn/rope.h"

namespace bezel::gemma4 {

/// Reference: Gemma4VisionAttention.
class VisionAttentionImpl : public torch::nn::Module {
 public:
  explicit VisionAttentionImpl(const VisionConfig& config);
  torch::Tensor forward(const nn::FusedInput& x, const nn::RopeTable& rotation);  // [P, H] -> [P, H]; [P, 2, D/2]

  nn::Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, o_proj{nullptr};
  nn::RmsNorm q_norm{nullptr}, k_norm{nullptr};

 private:
  std::int64_t head_dim_;
  double eps_;
};
TORCH_MODULE(VisionAttention);

/// Reference: Gemma4VisionMLP.
class VisionMlpImpl : public torch::nn::Module {
 public:
  explicit VisionMlpImpl(const VisionConfig& config);
  torch::Tensor forward(const nn::FusedInput& x);  // [P, H] -> [P, H]

  nn::Linear gate_proj{nullptr}, up_proj{nullptr}, down_proj{nullptr};
};
TORCH_MODULE(VisionMlp);

/// Reference: Gemma4VisionEncoderLayer.
class VisionLayerImpl : public torch::nn::Module {
 public:
  explicit VisionLayerImpl(const VisionConfig& config);
  torch::Tensor forward(const torch::Tensor& x, const nn::RopeTable& rotation);  // [P, H] -> [P, H]; [P, 2, D/2]

  VisionAttention self_attn{nullptr};
  VisionMlp mlp{nullptr};
  nn::RmsNorm input_layernorm{nullptr}, post_attention_layernorm{nullptr};
  nn::RmsNorm pre_feedforward_layernorm{nullptr}, post_feedforward_layernorm{nullptr};
};
TORCH_MODULE(VisionLayer);

/// Reference: Gemma4VisionEncoder; holds the layers.
class VisionEncoderImpl : public torch::nn::Module {
 public:
  explicit VisionEncoderImpl(const VisionConfig& config);

  torch::nn::ModuleList layers;
};
TORCH_MODULE(VisionEncoder);

/// Reference: Gemma4VisionPatchEmbedder.
class PatchEmbedderImpl : public nn::Module {
 public:
  explicit PatchEmbedderImpl(const VisionConfig& config);
  /// patches [P, 3 * patch_size²], positions int64 [P, 2] -> [P, H] in `dtype`
  torch::Tensor forward(const torch::Tensor& patches, const torch::Tensor& positions, torch::ScalarType dtype);

  nn::Linear input_proj{nullptr};
  torch::Tensor position_embedding_table;  // [2, position_embedding_size, H]
};
TORCH_MODULE(PatchEmbedder);

/// Encoder of images. Attention runs over the real patches only, so it needs no mask, and padding costs nothing.
/// Reference: Gemma4VisionModel.
class VisionModelImpl : public Encoder {
 public:
  explicit VisionModelImpl(const VisionConfig& config);

  /// Mean of the patches of each pooling window in float32, times sqrt(H), standardised if configured.
  torch::Tensor encode(const input::Media& image, torch::ScalarType dtype) override;
  torch::nn::ModuleList layers() const override { return encoder->layers; }

  PatchEmbedder patch_embedder{nullptr};
  VisionEncoder encoder{nullptr};
  torch::Tensor std_bias, std_scale;  // [H], with `standardize` only

 private:
  torch::Tensor pool(const torch::Tensor& h, const input::Media& image) const;

  VisionConfig config_;
  torch::Tensor frequencies_;  // [D / 4]
};

}  // namespace bezel::gemma4
