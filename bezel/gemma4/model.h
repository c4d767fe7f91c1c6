#pragma once

#include <memory>

#include <torch/nn/pimpl.h>

#include "bezel/data/batch.h"
#include "bezel/gemma4/audio.h"
#include "bezel/gemma4/config.h"
#include "bezel/gemma4/parts.h"
#include "bezel/gemma4/soft_token_cache.h"
#include "bezel/gemma4/text.h"
#include "bezel/gemma4/vision.h"

namespace bezel::gemma4 {

/// Norm without scale, then projection into the text width. Reference: Gemma4MultimodalEmbedder.
class EmbedderImpl : public torch::nn::Module {
 public:
  EmbedderImpl(std::int64_t soft_width, std::int64_t text_width, double eps);
  torch::Tensor forward(const torch::Tensor& soft);  // [M, soft width] -> [M, H]

  nn::Linear embedding_projection{nullptr};

 private:
  double eps_;
};
TORCH_MODULE(Embedder);

/// Everything under the checkpoint's `model.` prefix: the decoder, the towers that the config has, their embedders.
/// Reference: Gemma4Model.
class BackboneImpl : public torch::nn::Module {
 public:
  explicit BackboneImpl(const ModelConfig& config);

  TextModel language_model{nullptr};
  VisionModel vision_tower{nullptr};
  AudioModel audio_tower{nullptr};
  Embedder embed_vision{nullptr}, embed_audio{nullptr};
};
TORCH_MODULE(Backbone);

/// A Gemma 4 or Gemma 3 model whose module names are the canonical tensor names (io/key_map). Weights come from
/// gemma4/load. References: Gemma4ForConditionalGeneration, Gemma4ForCausalLM, Gemma3ForCausalLM.
class ModelImpl : public torch::nn::Module {
 public:
  /// `dtype`: float32 or bfloat16, what activations are computed in.
  ModelImpl(ModelConfig config, torch::ScalarType dtype);

  const ModelConfig& config() const { return config_; }
  /// In the order of the module tree.
  const std::vector<Part>& parts() const { return parts_; }
  torch::ScalarType dtype() const { return dtype_; }

  /// Builds a Batch on the CPU from processor tensors, with this model's placeholder ids and pooling.
  data::Batch make_batch(const data::RawInputs& raw) const;

  /// Soft tokens of every picture of the batch, in order, [Ni, H]; undefined without pictures.
  torch::Tensor image_features(const data::Batch& batch);
  /// Soft tokens of every recording of the batch, in order, [Na, H]; undefined without recordings.
  torch::Tensor audio_features(const data::Batch& batch);

  /// Hidden states after the final norm, [B, T, H].
  torch::Tensor hidden_states(const data::Batch& batch);
  /// The same with the soft tokens given.
  torch::Tensor hidden_states(const data::Batch& batch, const torch::Tensor& images, const torch::Tensor& recordings);

  /// Hidden states of the batch's label positions, [L, H], in the order of label_rows. Layers whose other rows nobody
  /// reads compute these rows only.
  torch::Tensor label_states(const data::Batch& batch);
  /// The same with the soft tokens given.
  torch::Tensor label_states(const data::Batch& batch, const torch::Tensor& images, const torch::Tensor& recordings);

  /// Hidden state of the last token, [1, H], of one row that goes on where `past` ends, and extends it. The soft tokens
  /// of its pictures and recordings are given; a picture lies in one call as a whole.
  torch::Tensor next_state(const data::Batch& row, const torch::Tensor& images, const torch::Tensor& recordings,
                           Past& past);

  /// Keep only the inputs of each layer of the decoder and the towers for the backward pass (activation checkpointing).
  void set_recompute(bool recompute);

  /// Towers without adapters ask this first; null: they always run. While clamps are counted (nn::ClipCounting) they
  /// run.
  void set_soft_token_cache(std::shared_ptr<SoftTokenCache> cache) { soft_token_cache_ = std::move(cache); }

  /// Softcapped logits [N, V] of hidden states [N, H], in the compute dtype.
  torch::Tensor logits(const torch::Tensor& hidden);

  /// The output matrix [V, H]: the token embeddings where they are tied.
  const std::shared_ptr<const quant::Weight>& head() const;

  Backbone model{nullptr};
  nn::Linear lm_head{nullptr};  ///< only where the embeddings are not tied

 private:
  torch::Tensor decode(const data::Batch& batch, const torch::Tensor& images, const torch::Tensor& recordings,
                       const torch::Tensor& queries, Past* past = nullptr);

  // What `run` gives, or the cache of it.
  torch::Tensor soft_tokens(std::string_view name, const torch::nn::Module& tower,
                            const std::vector<torch::Tensor>& input, const std::function<torch::Tensor()>& run);

  ModelConfig config_;
  std::vector<Part> parts_;
  torch::ScalarType dtype_;
  std::shared_ptr<SoftTokenCache> soft_token_cache_;
};
TORCH_MODULE(Model);

}  // namespace bezel::gemma4
