#include "bezel/gemma4/orbax_arrays.h"

#include <initializer_list>
#include <utility>

namespace bezel::gemma4 {
namespace {

using Path = std::vector<std::string>;
using Dims = std::vector<std::int64_t>;

class Lister {
 public:
  std::vector<OrbaxArray> run(const ModelConfig& config) {
    const TextConfig& text = config.text;
    const std::int64_t width = text.hidden_size, per_layer = text.hidden_size_per_layer_input;
    add({"embedder", "input_embedding"}, {text.vocab_size, width});
    if (per_layer > 0) {
      add({"embedder", "per_layer_embeddings"}, {text.vocab_size_per_layer, text.num_layers, per_layer});
      add({"embedder", "per_layer_model_projection", "w"}, {width, text.num_layers, per_layer});
      add({"embedder", "per_layer_projection_norm", "scale"}, {per_layer});
    }
    add({"final_norm", "scale"}, {width});
    for (std::int64_t i = 0; i < text.num_layers; ++i)
      decoder_layer({"layer_" + std::to_string(i)}, text, text.layers[static_cast<std::size_t>(i)]);
    if (config.vision) vision(*config.vision, width);
    if (config.audio) audio(*config.audio, width);
    return std::move(arrays_);
  }

 private:
  void add(Path path, Dims shape) { arrays_.push_back({{std::move(path)}, std::move(shape)}); }

  void add_below(Path path, std::initializer_list<const char*> rest, Dims shape) {
    path.insert(path.end(), rest.begin(), rest.end());
    add(std::move(path), std::move(shape));
  }

  // Bounds lie beside the matrix; `shape`: of a bound.
  void bounds(const Path& path, std::initializer_list<const char*> matrix, const Dims& shape) {
    for (const char* bound : {"clip_input_max", "clip_input_min", "clip_output_max", "clip_output_min"}) {
      Path below = path;
      below.insert(below.end(), matrix.begin(), matrix.end());
      below.emplace_back(bound);
      add(std::move(below), shape);
    }
  }

  void decoder_layer(const Path& layer, const TextConfig& text, const TextLayerConfig& own) {
    const std::int64_t width = text.hidden_size, head = own.head_dim, experts = text.num_experts;
    add_below(layer, {"attn", "q_einsum", "w"}, {text.num_heads, width, head});
    if (own.key_is_value)
      add_below(layer, {"attn", "k_einsum", "w"}, {own.num_kv_heads, width, head});
    else
      add_below(layer, {"attn", "kv_einsum", "w"}, {2, own.num_kv_heads, width, head});
    add_below(layer, {"attn", "attn_vec_einsum", "w"}, {text.num_heads, head, width});
    add_below(layer, {"attn", "query_norm", "scale"}, {head});
    add_below(layer, {"attn", "key_norm", "scale"}, {head});
    add_below(layer, {"skip_scale"}, {1});
    for (const char* norm : {"pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm"})
      add_below(layer, {norm, "scale"}, {width});
    const char* dense = experts > 0 ? "mlp2" : "mlp";
    add_below(layer, {dense, "gating_einsum", "w"}, {2, own.intermediate_size, width});
    add_below(layer, {dense, "linear", "w"}, {own.intermediate_size, width});
    if (experts > 0) mixture(layer, text);
    if (const std::int64_t per_layer = text.hidden_size_per_layer_input; per_layer > 0) {
      add_below(layer, {"per_layer_input_gate", "w"}, {width, per_layer});
      add_below(layer, {"per_layer_projection", "w"}, {per_layer, width});
      add_below(layer, {"post_per_layer_input_norm", "scale"}, {width});
    }
  }

  void mixture(const Path& layer, const TextConfig& text) {
    const std::int64_t width = text.hidden_size, experts = text.num_experts;
    add_below(layer, {"mlp", "gating_einsum", "w"}, {experts, 2, text.moe_intermediate_size, width});
    add_below(layer, {"mlp", "linear", "w"}, {experts, text.moe_intermediate_size, width});
    add_below(layer, {"mlp", "router_logits", "w"}, {width, experts});
    add_below(layer, {"mlp", "router_scale"}, {width});
    add_below(layer, {"mlp", "per_expert_scale"}, {experts});
    for (const char* norm : {"pre_ffw2_norm", "post_ffw2_norm", "post_ffw1_norm"})
      add_below(layer, {norm, "scale"}, {width});
  }

  // Its layers are one stack.
  void vision(const VisionConfig& config, std::int64_t text_width) {
    const std::int64_t width = config.hidden_size, layers = config.num_layers, head = config.head_dim;
    const Path tower = {"vision_encoder"}, block = {"vision_encoder", "transformer", "stacked_layers", "block"};
    add_below(tower, {"entry", "input_projection", "w"}, {3 * config.patch_size * config.patch_size, width});
    add_below(tower, {"entry", "pos_emb"}, {config.position_embedding_size, 2, width});
    if (config.standardize)
      for (const char* part : {"bias", "scale"}) add_below(tower, {"standardize", part}, {width});
    add_below(block, {"attn", "q_einsum", "w"}, {layers, config.num_heads, width, head});
    add_below(block, {"attn", "kv_einsum", "w"}, {layers, 2, config.num_kv_heads, width, head});
    add_below(block, {"attn", "attn_vec_einsum", "w"}, {layers, config.num_heads, head, width});
    for (const char* norm : {"query_norm", "key_norm"}) add_below(block, {"attn", norm, "scale"}, {layers, head});
    for (const char* norm : {"pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm"})
      add_below(block, {norm, "scale"}, {layers, width});
    add_below(block, {"mlp", "gating_einsum", "w"}, {layers, 2, config.intermediate_size, width});
    add_below(block, {"mlp", "linear", "w"}, {layers, config.intermediate_size, width});
    if (config.use_clipped_linears) {
      for (const char* einsum : {"q_einsum", "kv_einsum", "attn_vec_einsum"}) bounds(block, {"attn", einsum}, {layers});
      for (const char* einsum : {"gating_einsum", "linear"}) bounds(block, {"mlp", einsum}, {layers});
    }
    add({"embedder", "mm_input_projection", "w"}, {width, text_width});
  }

  void audio(const AudioConfig& config, std::int64_t text_width) {
    const Path tower = {"audio_encoder"};
    const std::int64_t width = config.hidden_size;
    std::int64_t channels_in = 1;
    for (const int idx : {0, 1}) {
      const std::string number = std::to_string(idx), layer = "subsampling_" + number, norm = "norm_" + number;
      const std::int64_t channels = config.subsampling_channels[idx];
      add_below(tower, {"feature", layer.c_str(), "kernel"}, {3, 3, channels_in, channels});
      add_below(tower, {"feature", norm.c_str(), "scale"}, {channels});
      channels_in = channels;
    }
    add_below(tower, {"feature", "input_proj", "kernel"}, {AudioConfig::kMelBins / 4, channels_in, width});
    add_below(tower, {"output_projection", "kernel"}, {width, config.output_proj_dims});
    add_below(tower, {"output_projection", "bias"}, {config.output_proj_dims});
    for (std::int64_t i = 0; i < config.num_layers; ++i)  // one segment, with the slash in it
      audio_layer({"audio_encoder", "conformer/stacked_layers_" + std::to_string(i)}, config);
    add({"embedder", "audio_input_projection", "w"}, {config.output_proj_dims, text_width});
  }

  void clipped(const Path& layer, std::initializer_list<const char*> path, Dims shape, const AudioConfig& config) {
    Path kernel = layer;
    kernel.insert(kernel.end(), path.begin(), path.end());
    add_below(kernel, {"kernel"}, std::move(shape));
    if (config.use_clipped_linears) bounds(layer, path, {});
  }

  void audio_layer(const Path& layer, const AudioConfig& config) {
    const std::int64_t width = config.hidden_size, heads = config.num_heads, head = width / heads;
    for (const char* half : {"fflayer_start", "fflayer_end"}) {
      clipped(layer, {half, "ffn_layer1"}, {width, 4 * width}, config);
      clipped(layer, {half, "ffn_layer2"}, {4 * width, width}, config);
      for (const char* norm : {"pre_layer_norm", "post_layer_norm"}) add_below(layer, {half, norm, "scale"}, {width});
    }
    for (const char* part : {"query", "key", "value"})
      clipped(layer, {"trans_atten", "self_atten", part}, {width, width}, config);
    add_below(layer, {"trans_atten", "self_atten", "relative_position_embedding", "pos_proj", "kernel"},
              {width, heads, head});
    add_below(layer, {"trans_atten", "self_atten", "per_dim_scale"}, {head});
    clipped(layer, {"trans_atten", "post"}, {heads, head, width}, config);
    for (const char* norm : {"pre_norm", "post_norm"}) add_below(layer, {"trans_atten", norm, "scale"}, {width});
    clipped(layer, {"lconv", "linear_start"}, {width, 2 * width}, config);
    clipped(layer, {"lconv", "linear_end"}, {width, width}, config);
    add_below(layer, {"lconv", "depthwise_conv1d", "kernel"}, {config.conv_kernel_size, 1, width});
    for (const char* norm : {"ln", "conv_norm"}) add_below(layer, {"lconv", norm, "scale"}, {width});
    add_below(layer, {"final_ln", "scale"}, {width});
  }

  std::vector<OrbaxArray> arrays_;
};

}  // namespace

std::vector<OrbaxArray> orbax_arrays(const ModelConfig& config) { return Lister().run(config); }

}  // namespace bezel::gemma4
