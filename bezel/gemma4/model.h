#pragma once

#include <memory>

#include <torch/nn/pimpl.h>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/encoder.h"
#include "bezel/gemma4/parts.h"
#include "bezel/gemma4/phase.h"
#include "bezel/gemma4/soft_token_cache.h"
#include "bezel/gemma4/text.h"
#include "bezel/input/raw_inputs.h"
#include "bezel/nn/trained_table.h"

namespace bezel::gemma4 {

/// Norm without scale, then projection into the text width. Reference: Gemma4MultimodalEmbedder.
class EmbedderImpl : public torch::nn::Module {
 public:
  EmbedderImpl(std::int64_t soft_width, std::int64_t text_width, double eps, bool quantizable);
  torch::Tensor forward(const torch::Tensor& soft);  // [M, soft width] -> [M, H]

  nn::Linear embedding_projection{nullptr};

 private:
  double eps_;
};
TORCH_MODULE(Embedder);

/// How media of one kind, and of those that its encoder reads too, reach the decoder.
struct MediaInput {
  const Part* part = nullptr;  ///< of known_parts(): the encoder, or where that has no tensors the projector
  std::shared_ptr<Encoder> encoder;
  Embedder projector{nullptr};

  input::MediaKind kind() const { return *part->media; }
};

/// Everything under the checkpoint's `model.` prefix: the decoder, and an encoder and a projector for each kind of
/// media that the config has. Reference: Gemma4Model.
class BackboneImpl : public torch::nn::Module {
 public:
  explicit BackboneImpl(const ModelConfig& config);

  TextModel language_model{nullptr};
  std::vector<MediaInput> media_inputs;  ///< in the order in which they run
};
TORCH_MODULE(Backbone);

/// Soft tokens of media in the width of the decoder, in the order of Batch::soft_rows.
struct Encoded {
  torch::Tensor rows{};          ///< [M, H]; undefined without media
  input::PerKind<bool> kinds{};  ///< whose soft tokens are among them
};

/// A Gemma 4 or Gemma 3 model whose module names are the canonical tensor names (io/key_map). Weights come from
/// gemma4/load. References: Gemma4ForConditionalGeneration, Gemma4ForCausalLM, the same of Gemma4Unified,
/// Gemma3ForCausalLM.
class ModelImpl : public torch::nn::Module {
 public:
  /// `dtype`: float32 or bfloat16, what activations are computed in.
  ModelImpl(ModelConfig config, torch::ScalarType dtype);

  const ModelConfig& config() const { return config_; }
  /// In the order of the module tree.
  const std::vector<Part>& parts() const { return parts_; }
  torch::ScalarType dtype() const { return dtype_; }

  /// Builds a Batch on the CPU from processor tensors, with this model's placeholder ids and pooling.
  input::Batch make_batch(const input::RawInputs& raw) const;

  /// Soft tokens of the batch's media; `observer` is called after each encoder. Throws Error when the model has no
  /// encoder for them.
  Encoded encode(const input::Batch& batch, const PhaseObserver& observer = {});

  /// Hidden states after the final norm, [B, T, H].
  torch::Tensor hidden_states(const input::Batch& batch) { return hidden_states(batch, encode(batch)); }
  torch::Tensor hidden_states(const input::Batch& batch, const Encoded& encoded) { return decode(batch, encoded, {}); }

  /// Hidden states of the batch's label positions, [L, H], in the order of label_flat_index. Layers whose other rows
  /// nobody reads compute these rows only.
  torch::Tensor label_states(const input::Batch& batch) { return label_states(batch, encode(batch)); }
  torch::Tensor label_states(const input::Batch& batch, const Encoded& encoded);

  /// Hidden state of the last token, [1, H], of one row that follows what `past` holds, and extends it. An image must
  /// be in one call as a whole.
  torch::Tensor next_state(const input::Batch& row, const Encoded& encoded, KvCache& past);

  /// Where tokens of images see one another from here on, in place of what the config says.
  void set_image_attention(ImageAttention attention) { config_.text.image_attention = attention; }

  /// Keep only the inputs of each layer of the decoder and the towers for the backward pass (activation checkpointing).
  void set_recompute(bool recompute);

  /// Towers without adapters look here first; null: they always run. While clamps are counted (nn::ClipObserver) they
  /// run, and so do encoders without layers, which cost less than a look into it.
  void set_soft_token_cache(std::shared_ptr<SoftTokenCache> cache) { soft_token_cache_ = std::move(cache); }

  /// Softcapped logits [N, V] of hidden states [N, H], in the compute dtype.
  torch::Tensor logits(const torch::Tensor& hidden);

  /// The output matrix [V, H], with what is trained of it: the token embeddings where they are tied.
  const std::shared_ptr<const quant::Weight>& output_embedding() const { return trained_head->over(frozen_head()); }
  /// Device of the head, and so of the whole model.
  torch::Device device() const { return frozen_head()->device(); }
  /// The same as it is in the checkpoint.
  const std::shared_ptr<const quant::Weight>& frozen_head() const;

  Backbone model{nullptr};
  nn::Linear lm_head{nullptr};  ///< only where the embeddings are not tied
  std::shared_ptr<nn::TrainedHead> trained_head;

 private:
  torch::Tensor decode(const input::Batch& batch, const Encoded& encoded, const torch::Tensor& queries,
                       KvCache* past = nullptr);
  torch::Tensor looked_up_ids(const input::Batch& batch) const;
  std::vector<torch::Tensor> encode_kind(const MediaInput& path, const std::vector<input::Media>& media);
  // Of the encoder, or the cache.
  bool may_cache(const MediaInput& path) const;
  torch::Tensor soft_tokens(const MediaInput& path, const input::Media& media, bool may_cache);

  ModelConfig config_;
  std::vector<Part> parts_;
  torch::ScalarType dtype_;
  std::shared_ptr<SoftTokenCache> soft_token_cache_;
};
TORCH_MODULE(Model);

}  // namespace bezel::gemma4
