#include "bezel/gemma4/orbax_config.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

using io::Json;

constexpr const char* kTable = "embedder.input_embedding";
constexpr std::int64_t kMaxPositions = 131072;

/// What no shape of a released size says.
struct Size {
  const char* name;
  std::int64_t num_layers, hidden_size, sliding_window, max_positions, num_kv_shared_layers, top_k_experts;
  bool bidirectional_vision;
};

constexpr Size kSizes[] = {
    {"E2B", 35, 1536, 512, 131072, 20, 0, false},
    {"E4B", 42, 2560, 512, 131072, 18, 0, false},
    {"26B-A4B", 30, 2816, 1024, 262144, 0, 8, true},
    {"31B", 60, 5376, 1024, 262144, 0, 0, true},
};

class Shapes {
 public:
  Shapes(const OrbaxShapes& shapes, const std::string& source) : shapes_(shapes), source_(source) {}

  bool has(const std::string& name) const { return shapes_.count(name) > 0; }
  /// Dimension `dim` of an array that must have `num_dims`.
  std::int64_t size(const std::string& name, std::size_t dim, std::size_t num_dims) const {
    const auto place = shapes_.find(name);
    if (place == shapes_.end()) throw Error(source_, ": array '", name, "' is missing, which config.json is made from");
    if (place->second.size() != num_dims)
      throw Error(source_, ": array '", name, "' has ", place->second.size(), " dimensions, expected ", num_dims);
    return place->second[dim];
  }
  /// Of a matrix that is stored with or without ".w".
  std::int64_t matrix_size(const std::string& name, std::size_t dim, std::size_t num_dims) const {
    return size(has(name) ? name : name + ".w", dim, num_dims);
  }
  std::int64_t num_layers() const {
    std::int64_t count = 0;
    while (has("layer_" + std::to_string(count) + ".attn.query_norm.scale")) ++count;
    return count;
  }
  const std::string& source() const { return source_; }

 private:
  const OrbaxShapes& shapes_;
  const std::string& source_;
};

std::string layer(std::int64_t idx, const char* leaf) { return "layer_" + std::to_string(idx) + "." + leaf; }

const Size* find_size(std::int64_t num_layers, std::int64_t hidden_size) {
  return std::ranges::find_if(
      kSizes, [&](const Size& size) { return size.num_layers == num_layers && size.hidden_size == hidden_size; });
}

const Size& released_size(const Shapes& shapes) {
  const std::int64_t num_layers = shapes.num_layers();
  const std::int64_t hidden_size = shapes.size(kTable, 1, 2);
  const Size* found = find_size(num_layers, hidden_size);
  if (found == std::end(kSizes))
    throw Error(ErrorKind::kConfig, shapes.source(), ": ", num_layers, " layers of width ", hidden_size,
                " are none of Gemma 4's released sizes (E2B, E4B, 26B-A4B, 31B); give its config.json with --config");
  return *found;
}

/// Heads of the first layer whose head has that size.
std::int64_t kv_heads_of(const Shapes& shapes, std::int64_t num_layers, std::int64_t head_dim) {
  for (std::int64_t i = 0; i < num_layers; ++i) {
    if (shapes.size(layer(i, "attn.query_norm.scale"), 0, 1) != head_dim) continue;
    if (const std::string both = layer(i, "attn.kv_einsum.w"); shapes.has(both)) return shapes.size(both, 1, 4);
    if (const std::string keys = layer(i, "attn.k_einsum.w"); shapes.has(keys)) return shapes.size(keys, 0, 3);
  }
  throw Error(shapes.source(), ": no layer with heads of ", head_dim, " has keys");
}

/// Sizes of heads, widths of layers and what depends on them.
void add_layers(const Shapes& shapes, const Size& size, Json& text) {
  const std::int64_t sliding_dim = shapes.size(layer(0, "attn.query_norm.scale"), 0, 1);
  const std::int64_t full_dim = shapes.size(layer(size.num_layers - 1, "attn.query_norm.scale"), 0, 1);
  const bool key_is_value = shapes.has(layer(size.num_layers - 1, "attn.k_einsum.w"));
  const std::int64_t kv_heads = kv_heads_of(shapes, size.num_layers, sliding_dim);
  const std::int64_t full_kv_heads = kv_heads_of(shapes, size.num_layers, full_dim);
  const bool experts = shapes.has(layer(0, "mlp.router_logits.w"));
  const char* dense = experts ? "mlp2.gating_einsum" : "mlp.gating_einsum";
  const std::int64_t width = shapes.matrix_size(layer(0, dense), 1, 3);
  const std::int64_t last_width = shapes.matrix_size(layer(size.num_layers - 1, dense), 1, 3);
  Json types = Json::array();
  for (std::int64_t i = 0; i < size.num_layers; ++i)
    types.push_back(shapes.size(layer(i, "attn.query_norm.scale"), 0, 1) == full_dim ? "full_attention"
                                                                                     : "sliding_attention");
  text["num_attention_heads"] = shapes.size(layer(0, "attn.q_einsum.w"), 0, 3);
  text["num_key_value_heads"] = kv_heads;
  text["num_global_key_value_heads"] = key_is_value ? Json(full_kv_heads) : Json();
  text["head_dim"] = sliding_dim;
  text["global_head_dim"] = full_dim;
  text["attention_k_eq_v"] = key_is_value;
  text["layer_types"] = types;
  text["intermediate_size"] = width;
  text["use_double_wide_mlp"] = last_width == 2 * width;
  text["enable_moe_block"] = experts;
  text["num_experts"] = experts ? Json(shapes.size(layer(0, "mlp.router_logits.w"), 1, 2)) : Json();
  text["top_k_experts"] = experts ? Json(size.top_k_experts) : Json();
  text["moe_intermediate_size"] = experts ? Json(shapes.size(layer(0, "mlp.gating_einsum.w"), 2, 4)) : Json();
}

Json text_config(const Shapes& shapes, const Size& size) {
  const std::string table = "embedder.per_layer_embeddings";
  const bool per_layer = shapes.has(table);
  const std::int64_t vocab_size = shapes.size(kTable, 0, 2);
  Json text = {{"model_type", "gemma4_text"},
               {"vocab_size", vocab_size},
               {"vocab_size_per_layer_input", per_layer ? shapes.size(table, 0, 3) : vocab_size},
               {"hidden_size", size.hidden_size},
               {"hidden_size_per_layer_input", per_layer ? shapes.size(table, 2, 3) : 0},
               {"num_hidden_layers", size.num_layers},
               {"num_kv_shared_layers", size.num_kv_shared_layers},
               {"sliding_window", size.sliding_window},
               {"max_position_embeddings", size.max_positions},
               {"use_bidirectional_attention", size.bidirectional_vision ? Json("vision") : Json()},
               {"hidden_activation", "gelu_pytorch_tanh"},
               {"final_logit_softcapping", 30.0},
               {"rms_norm_eps", 1e-6},
               {"attention_bias", false},
               {"attention_dropout", 0.0},
               {"tie_word_embeddings", true},
               {"use_cache", true},
               {"initializer_range", 0.02},
               {"pad_token_id", 0},
               {"eos_token_id", 1},
               {"bos_token_id", 2}};
  text["rope_parameters"] = {
      {"full_attention", {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", 1000000.0}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
  add_layers(shapes, size, text);
  return text;
}

Json vision_config(const Shapes& shapes) {
  const std::string block = "vision_encoder.transformer.stacked_layers.block.";
  const std::string query = block + "attn.q_einsum.w";
  if (!shapes.has(query)) return {};
  const std::int64_t head_dim = shapes.size(query, 3, 4);
  return {{"model_type", "gemma4_vision"},
          {"hidden_size", shapes.size(query, 2, 4)},
          {"intermediate_size", shapes.matrix_size(block + "mlp.gating_einsum", 2, 4)},
          {"num_hidden_layers", shapes.size(query, 0, 4)},
          {"num_attention_heads", shapes.size(query, 1, 4)},
          {"num_key_value_heads", shapes.size(block + "attn.kv_einsum.w", 2, 5)},
          {"head_dim", head_dim},
          {"global_head_dim", head_dim},
          {"patch_size", 16},
          {"pooling_kernel_size", 3},
          {"position_embedding_size", shapes.size("vision_encoder.entry.pos_emb", 0, 3)},
          {"default_output_length", 280},
          {"max_position_embeddings", kMaxPositions},
          {"use_clipped_linears", shapes.has(block + "attn.q_einsum.clip_input_min")},
          {"standardize", shapes.has("vision_encoder.standardize.scale")},
          {"hidden_activation", "gelu_pytorch_tanh"},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"rms_norm_eps", 1e-6},
          {"initializer_range", 0.02},
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 100.0}}}};
}

Json audio_config(const Shapes& shapes) {
  const std::string tower = "audio_encoder.", first = tower + "conformer.stacked_layers_0.";
  const std::string query = first + "trans_atten.self_atten.query.kernel";
  if (!shapes.has(query)) return {};
  std::int64_t num_layers = 0;
  while (shapes.has(tower + "conformer.stacked_layers_" + std::to_string(num_layers) + ".final_ln.scale")) ++num_layers;
  return {{"model_type", "gemma4_audio"},
          {"hidden_size", shapes.size(query, 0, 2)},
          {"num_hidden_layers", num_layers},
          {"num_attention_heads", shapes.size(first + "trans_atten.post.kernel", 0, 3)},
          {"subsampling_conv_channels",
           {shapes.size(tower + "feature.subsampling_0.kernel", 3, 4),
            shapes.size(tower + "feature.subsampling_1.kernel", 3, 4)}},
          {"conv_kernel_size", shapes.size(first + "lconv.depthwise_conv1d.kernel", 0, 3)},
          {"output_proj_dims", shapes.size(tower + "output_projection.kernel", 1, 2)},
          {"use_clipped_linears", shapes.has(first + "trans_atten.self_atten.query.clip_input_min")},
          {"attention_chunk_size", 12},
          {"attention_context_left", 13},
          {"attention_context_right", 0},
          {"attention_logit_cap", 50.0},
          {"attention_invalid_logits_value", -1e9},
          {"residual_weight", 0.5},
          {"gradient_clipping", 1e10},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-6},
          {"initializer_range", 0.02}};
}

}  // namespace

std::string orbax_size(const OrbaxShapes& all) {
  const auto table = all.find(kTable);
  if (table == all.end() || table->second.size() != 2) return "";
  const std::string source;
  const Size* found = find_size(Shapes(all, source).num_layers(), table->second[1]);
  return found == std::end(kSizes) ? "" : found->name;
}

Json orbax_config(const OrbaxShapes& all, const std::string& source) {
  const Shapes shapes(all, source);
  const Size& size = released_size(shapes);
  return {{"architectures", {"Gemma4ForConditionalGeneration"}},
          {"model_type", "gemma4"},
          {"tie_word_embeddings", true},
          {"initializer_range", 0.02},
          {"image_token_id", 258880},
          {"audio_token_id", 258881},
          {"eoi_token_id", 258882},
          {"eoa_token_id", 258883},
          {"eoa_token_index", 258883},
          {"video_token_id", 258884},
          {"boi_token_id", 255999},
          {"boa_token_id", 256000},
          {"vision_soft_tokens_per_image", 280},
          {"text_config", text_config(shapes, size)},
          {"vision_config", vision_config(shapes)},
          {"audio_config", audio_config(shapes)}};
}

}  // namespace bezel::gemma4
