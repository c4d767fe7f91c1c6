#include "bezel/gemma4/config.h"

#include <cmath>

#include "bezel/error.h"
#include "bezel/gemma4/config_fit.h"
#include "bezel/gemma4/gguf_config.h"
#include "bezel/gemma4/relatives.h"
#include "bezel/io/checkpoint_folder.h"
#include "bezel/io/regular_file.h"

namespace bezel::gemma4 {
namespace {

using io::JsonView;

std::int64_t count(const JsonView& json, std::string_view name, std::int64_t min = 1) {
  return json.at(name).whole(min, kMaxDim);
}

std::int64_t count_or(const JsonView& json, std::string_view name, std::int64_t fallback, std::int64_t min = 1) {
  const auto member = json.find(name);
  return member ? member->whole(min, kMaxDim) : fallback;
}

double positive_or(const JsonView& json, std::string_view name, double fallback) {
  const auto member = json.find(name);
  if (!member) return fallback;
  const double value = member->number();
  if (!(value > 0)) member->fail("a number above 0");
  return value;
}

bool flag_or(const JsonView& json, std::string_view name, bool fallback) {
  const auto member = json.find(name);
  return member ? member->boolean() : fallback;
}

void require_activation(const JsonView& json, std::string_view name, std::string_view wanted) {
  if (const auto member = json.find(name); member && member->text() != wanted)
    member->fail("\"" + std::string(wanted) + "\", the only activation of Gemma");
}

// A section without rope_type is one of "default", as transformers reads it: all angles turn.
RopeConfig read_rope(const JsonView& json, const RopeConfig& fallback) {
  RopeConfig rope = fallback;
  auto type = json.find("rope_type");
  if (!type) type = json.find("type");  // the older spelling, in rope_scaling
  const std::string name = type ? type->text() : "default";
  if (name != "default" && name != "proportional" && name != "linear")
    type->fail("\"default\", \"proportional\" or \"linear\"");
  rope.partial_rotary_factor = 1.0;
  rope.theta = positive_or(json, "rope_theta", rope.theta);
  if (name == "proportional") rope.partial_rotary_factor = positive_or(json, "partial_rotary_factor", 1.0);
  if (rope.partial_rotary_factor > 1.0) json.fail("a partial_rotary_factor of at most 1");
  if (name == "linear")
    rope.linear_factor = positive_or(json, "factor", 1.0);
  else if (const auto factor = json.find("factor"); factor && factor->number() != 1.0)
    factor->fail("no scaling factor other than 1");
  return rope;
}

// Every `period`-th layer is full where layer_types does not list them.
std::vector<LayerType> read_layer_types(const JsonView& text, std::int64_t num_layers, std::int64_t period) {
  std::vector<LayerType> types;
  if (const auto list = text.find("layer_types")) {
    for (const JsonView& item : list->elements()) {
      const std::string name = item.text();
      if (name != "full_attention" && name != "sliding_attention")
        item.fail("\"full_attention\" or \"sliding_attention\"");
      types.push_back(name == "full_attention" ? LayerType::kFull : LayerType::kSliding);
    }
    if (static_cast<std::int64_t>(types.size()) != num_layers)
      throw Error(text.source(), ": layer_types lists ", types.size(), " layers, num_hidden_layers says ", num_layers);
  } else {
    for (std::int64_t i = 0; i < num_layers; ++i)
      types.push_back((i + 1) % period == 0 ? LayerType::kFull : LayerType::kSliding);
  }
  return types;
}

struct HeadShape {
  std::int64_t head_dim, num_kv_heads;
};

// The entry of a layer in per_layer_config. transformers pads the numbers to one length: "04" among more than ten.
std::optional<JsonView> layer_entry(const JsonView& overrides, std::size_t layer_idx) {
  const std::string number = std::to_string(layer_idx);
  for (const auto& [name, entry] : overrides.members()) {
    const std::size_t padding = name.size() > number.size() ? name.size() - number.size() : 0;
    if (name.substr(padding) == number && name.find_first_not_of('0') >= padding) return entry;
  }
  return std::nullopt;
}

/// head_dim and num_key_value_heads of each layer, from the flat keys or from per_layer_config. `full` is the shape of
/// full layers that have no entry there; nothing: that of all others.
void read_layer_shapes(const JsonView& text, TextConfig& config, std::optional<HeadShape> full = std::nullopt) {
  const HeadShape shape{count_or(text, "head_dim", 256), count_or(text, "num_key_value_heads", 4)};
  const auto overrides = text.find("per_layer_config");
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    TextLayerConfig& layer = config.layers[i];
    const HeadShape& own = full && layer.type == LayerType::kFull && !overrides ? *full : shape;
    layer.head_dim = own.head_dim;
    layer.num_kv_heads = own.num_kv_heads;
    if (const auto entry = overrides ? layer_entry(*overrides, i) : std::nullopt) {
      layer.head_dim = count_or(*entry, "head_dim", layer.head_dim);
      layer.num_kv_heads = count_or(*entry, "num_key_value_heads", layer.num_kv_heads);
    }
    if (layer.head_dim % 2 != 0)
      throw Error(text.source(), ": layer ", i, " has head_dim ", layer.head_dim,
                  ", rotary embeddings need an even one");
    if (config.num_heads % layer.num_kv_heads != 0)
      throw Error(text.source(), ": layer ", i, " has ", config.num_heads, " attention heads and ", layer.num_kv_heads,
                  " key/value heads, which does not divide them");
  }
}

void read_kv_sharing(const JsonView& text, TextConfig& config) {
  config.num_kv_shared_layers = count_or(text, "num_kv_shared_layers", 0, 0);
  if (config.num_kv_shared_layers >= config.num_layers)
    text.at("num_kv_shared_layers").fail("fewer than num_hidden_layers (" + std::to_string(config.num_layers) + ")");
  share_keys_and_values(config, text.source());
}

void read_experts(const JsonView& text, TextConfig& config) {
  if (!flag_or(text, "enable_moe_block", false)) return;
  config.num_experts = count(text, "num_experts");
  config.top_k_experts = count(text, "top_k_experts");
  const bool old_name = !text.find("moe_intermediate_size") && text.find("expert_intermediate_size");
  config.moe_intermediate_size = count(text, old_name ? "expert_intermediate_size" : "moe_intermediate_size");
  if (config.top_k_experts > config.num_experts)
    text.at("top_k_experts").fail("at most num_experts (" + std::to_string(config.num_experts) + ")");
}

// What both families write under the same names.
TextConfig read_shared(const JsonView& text, std::int64_t default_vocab, std::int64_t default_window) {
  TextConfig config;
  config.vocab_size = count_or(text, "vocab_size", default_vocab);
  config.hidden_size = count(text, "hidden_size");
  config.intermediate_size = count(text, "intermediate_size");
  config.num_layers = text.at("num_hidden_layers").whole(1, 4096);
  config.num_heads = count(text, "num_attention_heads");
  config.sliding_window = count_or(text, "sliding_window", default_window);
  config.pad_token_id = count_or(text, "pad_token_id", 0, 0);
  config.max_position_embeddings = count_or(text, "max_position_embeddings", 131072);
  config.rms_norm_eps = positive_or(text, "rms_norm_eps", 1e-6);
  if (text.find("final_logit_softcapping"))
    config.final_logit_softcapping = positive_or(text, "final_logit_softcapping", 0);
  config.attention_bias = flag_or(text, "attention_bias", false);
  config.tie_word_embeddings = flag_or(text, "tie_word_embeddings", true);
  require_activation(text, "hidden_activation", "gelu_pytorch_tanh");
  return config;
}

void read_ropes(const JsonView& text, TextConfig& config) {
  const auto rope = text.find("rope_parameters");
  if (!rope) return;
  if (!rope->find("sliding_attention") && !rope->find("full_attention"))
    rope->fail("sections sliding_attention and full_attention, one for each kind of layer");
  if (const auto part = rope->find("sliding_attention")) config.sliding_rope = read_rope(*part, config.sliding_rope);
  if (const auto part = rope->find("full_attention")) config.full_rope = read_rope(*part, config.full_rope);
}

// Features of the family that no unified model has; 0, null and false in its config.
void refuse_in_unified(const JsonView& text, const TextConfig& config) {
  if (config.hidden_size_per_layer_input != 0)
    text.at("hidden_size_per_layer_input").fail("0: a unified model has no per-layer embeddings");
  if (flag_or(text, "enable_moe_block", false))
    text.at("enable_moe_block").fail("false: a unified model has no experts");
}

TextConfig read_text(const JsonView& text, bool unified = false) {
  TextConfig config = read_shared(text, 262144, unified ? 1024 : 512);
  config.vocab_size_per_layer = count_or(text, "vocab_size_per_layer_input", 262144, 0);
  const auto ple = text.find("hidden_size_per_layer_input");
  // The released large models write 0 or null; the reference's default of 256 applies only where the key is missing.
  config.hidden_size_per_layer_input =
      ple ? ple->whole(0, kMaxDim) : (unified || text.value().contains("hidden_size_per_layer_input") ? 0 : 256);
  if (config.hidden_size_per_layer_input > 0 && config.vocab_size_per_layer == 0)
    text.at("vocab_size_per_layer_input").fail("above 0 beside a hidden_size_per_layer_input");
  if (unified) refuse_in_unified(text, config);
  config.bidirectional_vision = unified && !text.value().contains("use_bidirectional_attention");
  if (unified) config.image_attention = ImageAttention::kAllLayers;
  if (const auto mode = text.find("use_bidirectional_attention")) {
    if (mode->text() != "vision") mode->fail("null or \"vision\"");
    config.bidirectional_vision = true;
  }
  read_ropes(text, config);
  const bool key_is_value = flag_or(text, "attention_k_eq_v", false);
  const bool double_wide = flag_or(text, "use_double_wide_mlp", false);
  std::vector<LayerType> types = read_layer_types(text, config.num_layers, 6);
  types.back() = LayerType::kFull;  // the reference forces the last layer
  for (const LayerType type : types) {
    config.layers.push_back({.type = type,
                             .intermediate_size = config.intermediate_size,
                             .key_is_value = key_is_value && type == LayerType::kFull});
  }
  const std::int64_t kv_heads = count_or(text, "num_key_value_heads", 4);
  read_layer_shapes(text, config,
                    HeadShape{count_or(text, "global_head_dim", 512),
                              key_is_value ? count_or(text, "num_global_key_value_heads", kv_heads) : kv_heads});
  read_kv_sharing(text, config);
  read_experts(text, config);
  for (TextLayerConfig& layer : config.layers)
    if (double_wide && layer.kv_mode == KvMode::kReuse) layer.intermediate_size *= 2;
  return config;
}

void read_gemma3_ropes(const JsonView& text, TextConfig& config) {
  config.full_rope = {.theta = positive_or(text, "rope_theta", 1000000.0)};
  config.sliding_rope = {.theta = positive_or(text, "rope_local_base_freq", 10000.0)};
  if (const auto scaling = text.find("rope_scaling")) config.full_rope = read_rope(*scaling, config.full_rope);
  if (const auto rope = text.find("rope_parameters")) {
    if (const auto part = rope->find("sliding_attention")) config.sliding_rope = read_rope(*part, config.sliding_rope);
    if (const auto part = rope->find("full_attention")) config.full_rope = read_rope(*part, config.full_rope);
  }
}

TextConfig read_gemma3_text(const JsonView& text) {
  TextConfig config = read_shared(text, 262208, 4096);
  config.attention_scale = 1.0 / std::sqrt(positive_or(text, "query_pre_attn_scalar", 256.0));
  config.norm_offset = 1.0;
  config.value_norm = false;
  config.layer_scalar = false;
  if (const auto cap = text.find("attn_logit_softcapping")) cap->fail("null: no Gemma 3 caps its attention");
  if (flag_or(text, "use_bidirectional_attention", false))
    text.at("use_bidirectional_attention").fail("false: an encoder of texts has no next token to learn");
  read_gemma3_ropes(text, config);
  for (const LayerType type : read_layer_types(text, config.num_layers, count_or(text, "sliding_window_pattern", 6)))
    config.layers.push_back({.type = type, .intermediate_size = config.intermediate_size});
  read_layer_shapes(text, config);
  return config;
}

VisionConfig read_vision(const JsonView& vision) {
  VisionConfig config;
  config.hidden_size = count_or(vision, "hidden_size", config.hidden_size);
  config.intermediate_size = count_or(vision, "intermediate_size", config.intermediate_size);
  config.num_layers = count_or(vision, "num_hidden_layers", config.num_layers);
  config.num_heads = count_or(vision, "num_attention_heads", config.num_heads);
  config.num_kv_heads = count_or(vision, "num_key_value_heads", config.num_kv_heads);
  config.head_dim = count_or(vision, "head_dim", config.head_dim);
  config.patch_size = count_or(vision, "patch_size", config.patch_size);
  config.pooling_kernel_size = count_or(vision, "pooling_kernel_size", config.pooling_kernel_size);
  config.position_embedding_size = count_or(vision, "position_embedding_size", config.position_embedding_size);
  config.rms_norm_eps = positive_or(vision, "rms_norm_eps", config.rms_norm_eps);
  config.use_clipped_linears = flag_or(vision, "use_clipped_linears", false);
  config.standardize = flag_or(vision, "standardize", false);
  require_activation(vision, "hidden_activation", "gelu_pytorch_tanh");
  if (const auto rope = vision.find("rope_parameters")) {
    // "default" in released files, "axial" since transformers 5.23: one meaning.
    if (const auto type = rope->find("rope_type"); type && type->text() != "default" && type->text() != "axial")
      type->fail("\"default\" or \"axial\"");
    config.rope_theta = positive_or(*rope, "rope_theta", config.rope_theta);
  }
  if (config.head_dim % 4 != 0) vision.at("head_dim").fail("a multiple of 4: two axes of rotated pairs");
  if (config.num_heads % config.num_kv_heads != 0)
    vision.at("num_key_value_heads")
        .fail("a divisor of num_attention_heads (" + std::to_string(config.num_heads) + ")");
  return config;
}

VisionConfig read_unified_vision(const JsonView& vision) {
  VisionConfig config{.num_layers = 0, .pooling_kernel_size = 1};
  const std::int64_t patch = vision.find("patch_size") ? vision.at("patch_size").whole(1, 256) : 16;
  const std::int64_t side = vision.find("pooling_kernel_size") ? vision.at("pooling_kernel_size").whole(1, 64) : 3;
  config.patch_size = patch * side;
  config.hidden_size = count_or(vision, "mm_embed_dim", 3840);
  config.position_embedding_size = count_or(vision, "mm_posemb_size", 1120);
  config.rms_norm_eps = positive_or(vision, "rms_norm_eps", config.rms_norm_eps);
  if (const auto size = vision.find("model_patch_size"); size && size->whole() != config.patch_size)
    size->fail("patch_size * pooling_kernel_size (" + std::to_string(config.patch_size) + ")");
  if (const auto width = vision.find("output_proj_dims"); width && width->whole() != config.hidden_size)
    width->fail("mm_embed_dim (" + std::to_string(config.hidden_size) + "), which is projected");
  return config;
}

// One number under four names.
AudioConfig read_unified_audio(const JsonView& audio) {
  AudioConfig config{.hidden_size = 0, .num_layers = 0, .use_clipped_linears = false};
  for (const char* name : {"audio_embed_dim", "audio_samples_per_token", "hidden_size", "output_proj_dims"}) {
    const auto member = audio.find(name);
    if (!member) continue;
    const std::int64_t size = member->whole(1, kMaxDim);
    if (config.hidden_size != 0 && size != config.hidden_size)
      member->fail("the samples of a soft token, " + std::to_string(config.hidden_size) + ", as the keys beside it");
    config.hidden_size = size;
  }
  if (config.hidden_size == 0) config.hidden_size = 640;
  config.output_proj_dims = config.hidden_size;
  config.rms_norm_eps = positive_or(audio, "rms_norm_eps", config.rms_norm_eps);
  return config;
}

AudioConfig read_audio(const JsonView& audio) {
  AudioConfig config;
  config.hidden_size = count_or(audio, "hidden_size", config.hidden_size);
  config.num_layers = count_or(audio, "num_hidden_layers", config.num_layers);
  config.num_heads = count_or(audio, "num_attention_heads", config.num_heads);
  if (const auto channels = audio.find("subsampling_conv_channels")) {
    const auto list = channels->elements();
    if (list.size() != 2) channels->fail("two channel counts");
    for (int i = 0; i < 2; ++i) config.subsampling_channels[i] = list[i].whole(1, kMaxDim);
  }
  config.conv_kernel_size = count_or(audio, "conv_kernel_size", config.conv_kernel_size);
  config.chunk_size = count_or(audio, "attention_chunk_size", config.chunk_size);
  config.context_left = count_or(audio, "attention_context_left", config.context_left);
  config.context_right = count_or(audio, "attention_context_right", config.context_right, 0);
  config.output_proj_dims = count_or(audio, "output_proj_dims", config.output_proj_dims);
  config.residual_weight = positive_or(audio, "residual_weight", config.residual_weight);
  config.logit_cap = positive_or(audio, "attention_logit_cap", config.logit_cap);
  if (const auto value = audio.find("attention_invalid_logits_value")) config.invalid_logit = value->number();
  config.rms_norm_eps = positive_or(audio, "rms_norm_eps", config.rms_norm_eps);
  config.gradient_clipping = positive_or(audio, "gradient_clipping", config.gradient_clipping);
  config.use_clipped_linears = flag_or(audio, "use_clipped_linears", true);
  require_activation(audio, "hidden_act", "silu");
  if (config.hidden_size % config.num_heads != 0)
    audio.at("num_attention_heads").fail("a divisor of hidden_size (" + std::to_string(config.hidden_size) + ")");
  return config;
}

// The sections of what is not text.
void read_media(const JsonView& json, ModelConfig& config) {
  if (const auto vision = json.find("vision_config"))
    config.vision = config.is_unified() ? read_unified_vision(*vision) : read_vision(*vision);
  if (const auto audio = json.find("audio_config"))
    config.audio = config.is_unified() ? read_unified_audio(*audio) : read_audio(*audio);
  input::MediaTokenIds& ids = config.placeholder_ids;
  for (const input::MediaKind kind : input::kMediaKinds)
    ids.of[kind] = count_or(json, std::string(input::kMediaWords[kind].part) + "_token_id", ids[kind], 0);
}

// config.json of a folder; an error says what the folder holds instead.
std::string config_path(const std::string& folder) {
  io::check_checkpoint_folder(folder);
  std::string path = folder + "/config.json";
  if (io::is_there(path)) return path;
  const std::string instead = io::instead_of_checkpoint(folder);
  throw Error(ErrorKind::kIo, path, ": no such file",
              instead.empty() ? " (incomplete download?)" : "; " + folder + " " + instead);
}

std::string first_architecture(const JsonView& json) {
  const auto list = json.find("architectures");
  if (!list) return "";
  const auto names = list->elements();
  return names.empty() ? "" : names.front().text();
}

}  // namespace

ModelConfig read_model_config(const JsonView& json) {
  const std::string type = json.at("model_type").text();
  ModelConfig config;
  if (const auto dtype = json.find("dtype")) config.dtype = dtype->text();
  config.quantization = quant::read_stored_format(json);
  const bool unified = type == "gemma4_unified" || type == "gemma4_unified_text";
  if (unified) config.family = Family::kGemma4Unified;
  if (type == "gemma4_text" || type == "gemma4_unified_text") {
    config.text_only = true;
    config.text = read_text(json, unified);
    return config;
  }
  if (type == "gemma3_text") {
    config.family = Family::kGemma3;
    config.text_only = true;
    config.text = read_gemma3_text(json);
    return config;
  }
  refuse_relative(type, json.source());
  if (type != "gemma4" && !unified)
    throw Error(json.source(), ": key 'model_type': got '", type,
                "', expected 'gemma4', 'gemma4_unified', 'gemma4_text', 'gemma4_unified_text' or 'gemma3_text'");
  const std::string architecture = first_architecture(json);
  config.text_only = architecture == "Gemma4ForCausalLM" || architecture == "Gemma4UnifiedForCausalLM";
  config.text = read_text(json.at("text_config"), unified);
  if (const auto tie = json.find("tie_word_embeddings")) config.text.tie_word_embeddings = tie->boolean();
  if (!config.text_only) read_media(json, config);
  return config;
}

ModelConfig read_model_config(const std::string& model) {
  if (io::is_gguf_path(model)) return read_gguf_config(io::GgufModel::open(model));
  const std::string path = config_path(model);
  const io::Json json = io::read_json_file(path);
  ModelConfig config = read_model_config(JsonView(json, path));
  if (io::Checkpoint::has_weights(model)) fit_to_weights(config, io::Checkpoint::open(model));
  return config;
}

}  // namespace bezel::gemma4
