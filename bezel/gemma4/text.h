#pragma once

#include <array>
#include <functional>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/layer_plan.h"
#include "bezel/nn/embedding.h"
#include "bezel/nn/experts.h"
#include "bezel/nn/key_ranges.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/rms_norm.h"
#include "bezel/nn/rope.h"

namespace bezel::gemma4 {

/// Keys and values of one layer, after norm and rotation, each [B, K, T, D].
struct KvStates {
  torch::Tensor key;
  torch::Tensor value;
};

/// Keys and values of the layers that share theirs, by LayerType. Reference: shared_kv_states.
using SharedKv = std::array<KvStates, 2>;

/// Keys and values of earlier tokens, while a text is read and written in several calls of the decoder.
class KvCache {
 public:
  virtual ~KvCache() = default;
  /// Tokens of all calls before, which is the position of the next one.
  virtual std::int64_t num_tokens() const = 0;
  /// Takes keys and values of n new tokens of a layer that computes its own, and returns those that they attend to, the
  /// new ones last: in a full layer all S = num_tokens() + n, in a sliding one n and up to window - 1 before them. For
  /// a single token these may come in any order.
  virtual KvStates update(std::int64_t layer_idx, const KvStates& fresh) = 0;
};

/// Arguments of a decoder call beside its embeddings [B, T, H].
struct Context {
  torch::Tensor attention_mask;  ///< bool [B, T], false on padding; undefined: none
  torch::Tensor segment_start;  ///< int64 [B, T], where the sample of each position begins; undefined: one sample a row
  torch::Tensor
      image_run_end;  ///< int64 [B, T], opens sliding attention inside an image (nn::image_run_ends); or undefined
  torch::Tensor image_run_begin;  ///< int64 [B, T] (nn::image_run_begins): images are seen whole in all layers;
                                  ///< undefined: as ImageAttention::kSlidingLayers
  torch::Tensor queries;          ///< int64 [B, Q], the positions whose states are wanted; undefined: all
  KvCache* past =
      nullptr;  ///< what came before, to be extended by this call; null: nothing. B = 1, one sample, no padding
  torch::Tensor prefix_begin;  ///< int64 [A, B, T], of shared prefixes (input::Batch); undefined: none. No padding
  torch::Tensor prefix_end;    ///< int64 [A, B, T]
};

/// What all layers of one type share in a step. Q queries of each row attend to S keys: the T of this call, after
/// those of the calls before. Q is T until the layer from which on only `queries` are computed.
struct AttentionContext {
  nn::RopeTable query_rope;  // [B or 1, Q, D]
  nn::RopeTable key_rope;    // [B or 1, T, D]
  nn::KeyRanges mask;        // of Q queries among S keys
  std::function<KvStates(const KvStates&)>
      update_cache;  // KvCache::update of the layer at hand; empty: nothing came before
};

/// What all layers of a call share.
struct CallInputs {
  std::array<AttentionContext, 2> all, gathered;  // by LayerType: for all positions, for the query positions
  torch::Tensor rows;                             // int64 [B * Q], the queries in B*T; undefined: all
  torch::Tensor per_layer;                        // [B, T, L, 256] or undefined
  KvCache* past = nullptr;
};

/// References: Gemma4TextAttention, Gemma3Attention.
class TextAttentionImpl : public torch::nn::Module {
 public:
  TextAttentionImpl(const TextConfig& config, const TextLayerConfig& layer);

  /// x [B, T, H] -> [B, Q, H], for the rows `queries` of it (int64 [B * Q] into B*T; undefined: all). A layer that
  /// reuses keys and values reads `shared`; any other computes its own from all of x and leaves them in `own`.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& queries, const AttentionContext& inputs,
                        const KvStates& shared, KvStates& own);

  nn::Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, o_proj{nullptr};
  nn::RmsNorm q_norm{nullptr}, k_norm{nullptr};

 private:
  KvStates key_value(const torch::Tensor& x, const nn::RopeTable& rotation);

  TextLayerConfig layer_;
  double eps_;
  bool value_norm_;
};
TORCH_MODULE(TextAttention);

/// down(gelu(gate x) * up x). Reference: Gemma4TextMLP.
class TextMlpImpl : public torch::nn::Module {
 public:
  TextMlpImpl(std::int64_t hidden_size, std::int64_t intermediate_size);
  torch::Tensor forward(const nn::FusedInput& x);  // [..., H] -> [..., H]

  nn::Linear gate_proj{nullptr}, up_proj{nullptr}, down_proj{nullptr};
};
TORCH_MODULE(TextMlp);

/// The experts that each row goes to and their weights, both [N, top_k].
struct Routing {
  torch::Tensor expert;  // int64
  torch::Tensor weight;  // float32
};

/// Reference: Gemma4TextRouter.
class RouterImpl : public nn::Module {
 public:
  explicit RouterImpl(const TextConfig& config);
  Routing forward(const torch::Tensor& x);  // [N, H]

  nn::Linear proj{nullptr};
  torch::Tensor scale;             // [H]
  torch::Tensor per_expert_scale;  // [E]

 private:
  std::int64_t top_k_;
  double eps_;
};
TORCH_MODULE(Router);

/// Reference: Gemma4TextExperts.
class ExpertsImpl : public nn::StackedExperts {
 public:
  explicit ExpertsImpl(const TextConfig& config);
  /// x [N, H] -> [N, H]. Which rows go to which expert is read back to the host.
  torch::Tensor forward(const torch::Tensor& x, const Routing& routing);
};
TORCH_MODULE(Experts);

/// References: Gemma4TextDecoderLayer, Gemma3DecoderLayer.
class TextLayerImpl : public nn::Module {
 public:
  TextLayerImpl(const TextConfig& config, std::int64_t layer_idx);
  /// x [B, T, H], per_layer_input [B, Q, 256] or undefined -> [B, Q, H]; `queries` as in TextAttention.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& queries, const torch::Tensor& per_layer_input,
                        const AttentionContext& inputs, const KvStates& shared, KvStates& own);

  TextAttention self_attn{nullptr};
  TextMlp mlp{nullptr};
  nn::RmsNorm input_layernorm{nullptr}, post_attention_layernorm{nullptr};
  nn::RmsNorm pre_feedforward_layernorm{nullptr}, post_feedforward_layernorm{nullptr};
  nn::Linear per_layer_input_gate{nullptr}, per_layer_projection{nullptr};
  nn::RmsNorm post_per_layer_input_norm{nullptr};
  Router router{nullptr};
  Experts experts{nullptr};
  nn::RmsNorm post_feedforward_layernorm_1{nullptr}, post_feedforward_layernorm_2{nullptr};
  nn::RmsNorm pre_feedforward_layernorm_2{nullptr};
  torch::Tensor layer_scalar;  // [1], undefined in models without

 private:
  torch::Tensor feed_forward(const torch::Tensor& x);
};
TORCH_MODULE(TextLayer);

/// References: Gemma4TextModel, Gemma3TextModel.
class TextModelImpl : public torch::nn::Module {
 public:
  explicit TextModelImpl(const TextConfig& config);

  /// Embeddings of `ids` int64 [B, T] -> [B, T, H] in `dtype`.
  torch::Tensor embed(const torch::Tensor& ids, torch::ScalarType dtype);

  /// Per-layer inputs [B, T, L, 256]: the looked-up part from `ids` (pad at media positions), the projected part from
  /// `embeds` [B, T, H] (soft tokens in place). Undefined in models without them.
  torch::Tensor per_layer_inputs(const torch::Tensor& ids, const torch::Tensor& embeds);

  /// Final, normalized hidden states [B, T, H]. With context.queries only those positions are wanted, [B, Q, H]: from
  /// the last layer with keys of its own on, nothing else is computed.
  torch::Tensor forward(const torch::Tensor& embeds, const torch::Tensor& per_layer, const Context& context);

  /// Keep only the inputs of each layer for the backward pass and run it again there.
  bool recompute = false;

  nn::Embedding embed_tokens{nullptr}, embed_tokens_per_layer{nullptr};
  torch::nn::ModuleList layers;
  nn::RmsNorm norm{nullptr}, per_layer_projection_norm{nullptr};
  nn::Linear per_layer_model_projection{nullptr};

 private:
  AttentionContext attention_context(LayerType type, const torch::Tensor& embeds, const Context& context,
                                     const torch::Tensor& queries) const;
  CallInputs call_inputs(const torch::Tensor& embeds, const Context& context) const;
  torch::Tensor run_layer(const LayerPlan& plan, const torch::Tensor& h, const CallInputs& call, SharedKv& shared);

  TextConfig config_;
  std::vector<LayerPlan> plans_, gathering_plans_;
  mutable std::array<torch::Tensor, 2> frequencies_;  // by LayerType, [D / 2]
};
TORCH_MODULE(TextModel);

}  // namespace bezel::gemma4
