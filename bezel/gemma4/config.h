#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/input/media_kind.h"
#include "bezel/io/json.h"
#include "bezel/quant/stored_format.h"

namespace bezel::gemma4 {

/// The largest dimension that a checkpoint may have: no real one comes near, and products of two stay within 64 bits.
inline constexpr std::int64_t kMaxDim = 1 << 24;

/// Which of the models that share this decoder. What it computes follows from TextConfig; the family decides names
/// (classes of transformers, chat format, architectures of llama.cpp).
enum class Family { kGemma4, kGemma4Unified, kGemma3 };

enum class LayerType { kSliding, kFull };

/// Where each token of an image sees all of its image, also what comes behind it.
enum class ImageAttention {
  kSlidingLayers,  ///< in sliding layers, whose window bounds the past there too: k > q - window
  kAllLayers,      ///< in every layer, and no window cuts the image
};

/// rope_parameters of one layer type or of the vision tower.
struct RopeConfig {
  double theta = 10000.0;
  double partial_rotary_factor = 1.0;  ///< share of the head that rotates ("proportional" RoPE)
  double linear_factor = 1.0;          ///< positions are divided by it ("linear" RoPE)
};

/// What a decoder layer does with keys and values (num_kv_shared_layers).
enum class KvMode {
  kOwn,    ///< computes and keeps its own
  kStore,  ///< computes them, and later layers of its type read them
  kReuse,  ///< reads those of the last storing layer of its type
};

/// The parts of text_config that vary by layer, resolved.
struct TextLayerConfig {
  LayerType type = LayerType::kSliding;
  KvMode kv_mode = KvMode::kOwn;
  std::int64_t head_dim = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t intermediate_size = 0;
  bool key_is_value = false;  ///< attention_k_eq_v on a full layer: no v_proj
};

/// text_config.
struct TextConfig {
  std::int64_t vocab_size = 262144;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t sliding_window = 512;
  std::int64_t pad_token_id = 0;
  std::int64_t vocab_size_per_layer = 262144;
  std::int64_t hidden_size_per_layer_input = 0;  ///< 0: no per-layer embeddings
  std::int64_t num_kv_shared_layers = 0;
  std::int64_t num_experts = 0;  ///< 0: no mixture of experts
  std::int64_t top_k_experts = 0;
  std::int64_t moe_intermediate_size = 0;
  std::int64_t max_position_embeddings = 131072;
  double rms_norm_eps = 1e-6;
  double final_logit_softcapping = 0.0;  ///< 0: none
  double attention_scale = 1.0;          ///< of q kᵀ; Gemma 3: query_pre_attn_scalar^-1/2
  double norm_offset = 0.0;              ///< added to every stored norm weight; Gemma 3's safetensors: 1, its GGUF: 0
  bool value_norm = true;                ///< values are normalized; Gemma 3: not
  bool layer_scalar = true;              ///< each layer's result is multiplied by its layer_scalar; Gemma 3: not
  bool attention_bias = false;
  bool bidirectional_vision = false;                                ///< use_bidirectional_attention == "vision"
  ImageAttention image_attention = ImageAttention::kSlidingLayers;  ///< with bidirectional_vision
  bool tie_word_embeddings = true;
  RopeConfig sliding_rope{10000.0, 1.0};
  RopeConfig full_rope{1000000.0, 0.25};
  std::vector<TextLayerConfig> layers;  ///< one for each decoder layer

  /// The first layer that reads keys and values of another; num_layers where none does.
  std::int64_t first_kv_shared_layer() const { return num_layers - num_kv_shared_layers; }
  const RopeConfig& rope(LayerType type) const { return type == LayerType::kFull ? full_rope : sliding_rope; }
};

/// vision_config. The unified model has no layers (num_layers 0): its patches are as large as a soft token, so that
/// patch_size is model_patch_size and pooling_kernel_size 1, and position_embedding_size is mm_posemb_size.
struct VisionConfig {
  std::int64_t hidden_size = 768;  ///< unified: mm_embed_dim
  std::int64_t intermediate_size = 3072;
  std::int64_t num_layers = 16;
  std::int64_t num_heads = 12;
  std::int64_t num_kv_heads = 12;
  std::int64_t head_dim = 64;
  std::int64_t patch_size = 16;
  std::int64_t pooling_kernel_size = 3;
  std::int64_t position_embedding_size = 10240;
  double rms_norm_eps = 1e-6;
  double rope_theta = 100.0;
  bool use_clipped_linears = false;
  bool standardize = false;
};

/// audio_config. The unified model has no layers (num_layers 0): a soft token is made of hidden_size samples.
struct AudioConfig {
  std::int64_t hidden_size = 1024;  ///< unified: audio_embed_dim
  std::int64_t num_layers = 12;
  std::int64_t num_heads = 8;
  std::int64_t subsampling_channels[2] = {128, 32};
  std::int64_t conv_kernel_size = 5;
  std::int64_t chunk_size = 12;
  std::int64_t context_left = 13;
  std::int64_t context_right = 0;
  std::int64_t output_proj_dims = 1536;
  double residual_weight = 0.5;
  double logit_cap = 50.0;
  double invalid_logit = -1e9;
  double rms_norm_eps = 1e-6;
  double gradient_clipping = 1e10;
  bool use_clipped_linears = true;

  /// Mel bins, a constant of the architecture.
  static constexpr std::int64_t kMelBins = 128;
};

/// config.json of a Gemma 4 (with or without towers) or Gemma 3 checkpoint.
struct ModelConfig {
  Family family = Family::kGemma4;
  TextConfig text;
  std::optional<VisionConfig> vision;
  std::optional<AudioConfig> audio;
  bool text_only = false;  ///< Gemma4ForCausalLM, Gemma3ForCausalLM …: keys `model.layers…`, no towers
  input::MediaTokenIds placeholder_ids;
  quant::StoredFormat quantization;
  std::string dtype;                  ///< as written, such as "bfloat16"; "" when missing
  std::vector<std::string> warnings;  ///< where the weights are other than config.json says, and what is done then

  /// Kinds of media that the model has an encoder for.
  input::PerKind<bool> media() const { return {{vision.has_value(), audio.has_value(), vision.has_value()}}; }
  bool is_unified() const { return family == Family::kGemma4Unified; }
  /// Whether both rules of ImageAttention are in use for this model, so that it must be said which one is meant.
  bool has_image_attention() const { return is_unified() && vision && text.bidirectional_vision; }
  /// The model's class in transformers, such as "Gemma4ForConditionalGeneration".
  std::string architecture() const;

  /// Why no embedding can be looked up for token `id` of a text, naming the key of the table that ends before it; ""
  /// where one can. Ids of placeholders are never looked up in a model with that tower.
  std::string missing_row(std::int64_t id) const;
};

/// Reads config.json as released (flat global_head_dim, vision rope_type "default") and as transformers 5.23 saves it
/// (per_layer_config, "axial"), and of Gemma 3's text models. Unknown keys are ignored. Throws Error naming the key for
/// values that cannot be, and for architectures other than gemma4, gemma4_unified, their text models and gemma3_text.
ModelConfig read_model_config(const io::JsonView& json);

/// The same from `model`/config.json, adapted to the weights beside it (gemma4/config_fit), or from the metadata of a
/// GGUF file.
ModelConfig read_model_config(const std::string& model);

/// "all_layers" or "sliding_layers".
std::string_view image_attention_name(ImageAttention attention);

/// Sets text.image_attention to the one of that name; "" leaves it. Throws Error (kConfig) for other names, and for a
/// model that knows one rule only.
void choose_image_attention(ModelConfig& config, std::string_view name);

/// Sets what each layer does with keys and values, as num_kv_shared_layers says. Throws Error naming `source` when a
/// layer would have none to read.
void share_keys_and_values(TextConfig& config, const std::string& source);

}  // namespace bezel::gemma4
