#include "bezel/gemma4/orbax_map.h"

#include <algorithm>
#include <array>
#include <span>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

/// How the array `leaf` becomes tensors. With two targets its first dimension chooses between them. `order` lists the
/// array's other dimensions in the order of the tensor's; those written together become one.
struct Rule {
  std::string_view leaf;
  std::array<std::string_view, 2> targets;
  std::string_view order;
};

// Layers of the language model and of the vision tower.
constexpr Rule kLayerRules[] = {
    {"attn.q_einsum.w", {"self_attn.q_proj.weight"}, "02 1"},
    {"attn.kv_einsum.w", {"self_attn.k_proj.weight", "self_attn.v_proj.weight"}, "02 1"},
    {"attn.k_einsum.w", {"self_attn.k_proj.weight"}, "02 1"},
    {"attn.attn_vec_einsum.w", {"self_attn.o_proj.weight"}, "2 01"},
    {"attn.query_norm.scale", {"self_attn.q_norm.weight"}, "0"},
    {"attn.key_norm.scale", {"self_attn.k_norm.weight"}, "0"},
    {"skip_scale", {"layer_scalar"}, "0"},
    {"pre_attention_norm.scale", {"input_layernorm.weight"}, "0"},
    {"post_attention_norm.scale", {"post_attention_layernorm.weight"}, "0"},
    {"pre_ffw_norm.scale", {"pre_feedforward_layernorm.weight"}, "0"},
    {"post_ffw_norm.scale", {"post_feedforward_layernorm.weight"}, "0"},
    {"mlp.gating_einsum.w", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}, "0 1"},
    {"mlp.linear.w", {"mlp.down_proj.weight"}, "1 0"},
    {"per_layer_input_gate.w", {"per_layer_input_gate.weight"}, "1 0"},
    {"per_layer_projection.w", {"per_layer_projection.weight"}, "1 0"},
    {"post_per_layer_input_norm.scale", {"post_per_layer_input_norm.weight"}, "0"},
};

// What a layer with experts has in place of the same leaf above; mlp2 is its dense branch.
constexpr Rule kExpertRules[] = {
    {"mlp2.gating_einsum.w", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}, "0 1"},
    {"mlp2.linear.w", {"mlp.down_proj.weight"}, "1 0"},
    {"mlp.gating_einsum.w", {"experts.gate_up_proj"}, "0 12 3"},
    {"mlp.linear.w", {"experts.down_proj"}, "0 2 1"},
    {"mlp.router_logits.w", {"router.proj.weight"}, "1 0"},
    {"mlp.router_scale", {"router.scale"}, "0"},
    {"mlp.per_expert_scale", {"router.per_expert_scale"}, "0"},
    {"pre_ffw2_norm.scale", {"pre_feedforward_layernorm.weight"}, "0"},
    {"pre_ffw_norm.scale", {"pre_feedforward_layernorm_2.weight"}, "0"},
    {"post_ffw2_norm.scale", {"post_feedforward_layernorm_1.weight"}, "0"},
    {"post_ffw1_norm.scale", {"post_feedforward_layernorm_2.weight"}, "0"},
};

constexpr Rule kAudioLayerRules[] = {
    {"fflayer_start.ffn_layer1.kernel", {"feed_forward1.ffw_layer_1.weight"}, "1 0"},
    {"fflayer_start.ffn_layer2.kernel", {"feed_forward1.ffw_layer_2.weight"}, "1 0"},
    {"fflayer_start.pre_layer_norm.scale", {"feed_forward1.pre_layer_norm.weight"}, "0"},
    {"fflayer_start.post_layer_norm.scale", {"feed_forward1.post_layer_norm.weight"}, "0"},
    {"fflayer_end.ffn_layer1.kernel", {"feed_forward2.ffw_layer_1.weight"}, "1 0"},
    {"fflayer_end.ffn_layer2.kernel", {"feed_forward2.ffw_layer_2.weight"}, "1 0"},
    {"fflayer_end.pre_layer_norm.scale", {"feed_forward2.pre_layer_norm.weight"}, "0"},
    {"fflayer_end.post_layer_norm.scale", {"feed_forward2.post_layer_norm.weight"}, "0"},
    {"trans_atten.self_atten.query.kernel", {"self_attn.q_proj.weight"}, "1 0"},
    {"trans_atten.self_atten.key.kernel", {"self_attn.k_proj.weight"}, "1 0"},
    {"trans_atten.self_atten.value.kernel", {"self_attn.v_proj.weight"}, "1 0"},
    {"trans_atten.self_atten.per_dim_scale", {"self_attn.per_dim_scale"}, "0"},
    {"trans_atten.self_atten.relative_position_embedding.pos_proj.kernel",
     {"self_attn.relative_k_proj.weight"},
     "12 0"},
    {"trans_atten.post.kernel", {"self_attn.post.weight"}, "2 01"},
    {"trans_atten.pre_norm.scale", {"norm_pre_attn.weight"}, "0"},
    {"trans_atten.post_norm.scale", {"norm_post_attn.weight"}, "0"},
    {"lconv.linear_start.kernel", {"lconv1d.linear_start.weight"}, "1 0"},
    {"lconv.linear_end.kernel", {"lconv1d.linear_end.weight"}, "1 0"},
    {"lconv.depthwise_conv1d.kernel", {"lconv1d.depthwise_conv1d.weight"}, "2 1 0"},
    {"lconv.ln.scale", {"lconv1d.pre_layer_norm.weight"}, "0"},
    {"lconv.conv_norm.scale", {"lconv1d.conv_norm.weight"}, "0"},
    {"final_ln.scale", {"norm_out.weight"}, "0"},
};

// Below `model.`.
constexpr Rule kModelRules[] = {
    {"embedder.input_embedding", {"language_model.embed_tokens.weight"}, "0 1"},
    {"embedder.per_layer_embeddings", {"language_model.embed_tokens_per_layer.weight"}, "0 12"},
    {"embedder.per_layer_model_projection.w", {"language_model.per_layer_model_projection.weight"}, "12 0"},
    {"embedder.per_layer_projection_norm.scale", {"language_model.per_layer_projection_norm.weight"}, "0"},
    {"final_norm.scale", {"language_model.norm.weight"}, "0"},
    {"embedder.mm_input_projection.w", {"embed_vision.embedding_projection.weight"}, "1 0"},
    {"embedder.audio_input_projection.w", {"embed_audio.embedding_projection.weight"}, "1 0"},
    {"vision_encoder.entry.input_projection.w", {"vision_tower.patch_embedder.input_proj.weight"}, "1 0"},
    {"vision_encoder.entry.pos_emb", {"vision_tower.patch_embedder.position_embedding_table"}, "1 0 2"},
    {"vision_encoder.standardize.bias", {"vision_tower.std_bias"}, "0"},
    {"vision_encoder.standardize.scale", {"vision_tower.std_scale"}, "0"},
    {"audio_encoder.feature.subsampling_0.kernel",
     {"audio_tower.subsample_conv_projection.layer0.conv.weight"},
     "3 2 0 1"},
    {"audio_encoder.feature.subsampling_1.kernel",
     {"audio_tower.subsample_conv_projection.layer1.conv.weight"},
     "3 2 0 1"},
    {"audio_encoder.feature.norm_0.scale", {"audio_tower.subsample_conv_projection.layer0.norm.weight"}, "0"},
    {"audio_encoder.feature.norm_1.scale", {"audio_tower.subsample_conv_projection.layer1.norm.weight"}, "0"},
    {"audio_encoder.feature.input_proj.kernel",
     {"audio_tower.subsample_conv_projection.input_proj_linear.weight"},
     "2 01"},
    {"audio_encoder.output_projection.kernel", {"audio_tower.output_proj.weight"}, "1 0"},
    {"audio_encoder.output_projection.bias", {"audio_tower.output_proj.bias"}, "0"},
};

constexpr std::string_view kVisionBlock = "vision_encoder.transformer.stacked_layers.block.";
constexpr std::string_view kAudioLayer = "audio_encoder.conformer.stacked_layers_";
constexpr std::string_view kTextLayer = "layer_";

/// A name taken apart: which rules know its leaf, and where its tensors belong.
struct OrbaxPlace {
  std::string_view leaf;
  std::vector<std::span<const Rule>> rules;  ///< the first that knows the leaf counts
  std::string prefix;
  bool stacked = false;  ///< the first dimension counts layers, whose number follows the prefix
};

struct LayerName {
  std::string number;
  std::string_view leaf;
};

/// "<begin>12.leaf" as 12 and leaf.
std::optional<LayerName> layer_of(std::string_view name, std::string_view begin) {
  if (!name.starts_with(begin)) return std::nullopt;
  name.remove_prefix(begin.size());
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 5) return std::nullopt;
  const std::string_view number = name.substr(0, dot);
  const bool digits = std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || (number.size() > 1 && number[0] == '0')) return std::nullopt;
  return LayerName{std::string(number), name.substr(dot + 1)};
}

OrbaxPlace place_of(std::string_view name, const std::vector<std::string>& expert_layers) {
  if (name.starts_with(kVisionBlock))
    return {name.substr(kVisionBlock.size()), {kLayerRules}, "model.vision_tower.encoder.layers.", true};
  if (const auto layer = layer_of(name, kAudioLayer))
    return {layer->leaf, {kAudioLayerRules}, "model.audio_tower.layers." + layer->number + "."};
  if (const auto layer = layer_of(name, kTextLayer)) {
    const std::string prefix = "model.language_model.layers." + layer->number + ".";
    const bool experts = std::ranges::find(expert_layers, layer->number) != expert_layers.end();
    if (experts) return {layer->leaf, {kExpertRules, kLayerRules}, prefix};
    return {layer->leaf, {kLayerRules}, prefix};
  }
  return {name, {kModelRules}, "model."};
}

const Rule* find_rule(const OrbaxPlace& place, std::string_view leaf) {
  for (const std::span<const Rule> rules : place.rules)
    for (const Rule& rule : rules)
      if (rule.leaf == leaf) return &rule;
  return nullptr;
}

/// The rule of a leaf, with the final ".w" that saves of Flax leave out.
const Rule* rule_of(const OrbaxPlace& place) {
  const Rule* rule = find_rule(place, place.leaf);
  return rule != nullptr ? rule : find_rule(place, std::string(place.leaf) + ".w");
}

/// Clip bounds are stored beside their matrix: its rule, and the bound's name. All targets share them.
struct Bound {
  const Rule* rule = nullptr;
  std::string_view name;
};

Bound bound_of(const OrbaxPlace& place) {
  constexpr std::string_view kClip = ".clip_";
  const std::size_t at = place.leaf.rfind(kClip);
  if (at == std::string_view::npos) return {};
  const std::string_view name = place.leaf.substr(at + kClip.size());
  if (name != "input_min" && name != "input_max" && name != "output_min" && name != "output_max") return {};
  const std::string stem(place.leaf.substr(0, at));
  const Rule* rule = find_rule(place, stem + ".w");
  return {rule != nullptr ? rule : find_rule(place, stem + ".kernel"), name};
}

std::vector<std::int64_t> strides_of(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::size_t num_targets(const Rule& rule) { return rule.targets[1].empty() ? 1 : 2; }

/// Fills shape and axes of a tensor whose dimensions begin at dimension `begin` of the array.
void add_axes(OrbaxTensor& tensor, std::string_view order, const std::vector<std::int64_t>& shape, std::size_t begin) {
  const std::vector<std::int64_t> strides = strides_of(shape);
  bool joins = false;
  for (const char c : order) {
    if (c == ' ') {
      joins = false;
      continue;
    }
    const std::size_t dim = begin + static_cast<std::size_t>(c - '0');
    tensor.axes.push_back({shape[dim], strides[dim]});
    if (joins)
      tensor.shape.back() *= shape[dim];
    else
      tensor.shape.push_back(shape[dim]);
    joins = true;
  }
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

void check_shape(const std::string& name, const std::vector<std::int64_t>& shape, std::size_t num_dims,
                 std::size_t choice_dim, std::size_t choices) {
  if (shape.size() != num_dims)
    throw Error("array '", name, "': shape ", shape_text(shape), ", expected ", num_dims, " dimensions");
  if (choices > 1 && shape[choice_dim] != static_cast<std::int64_t>(choices))
    throw Error("array '", name, "': shape ", shape_text(shape), ", expected ", choices, " in dimension ", choice_dim);
}

}  // namespace

bool OrbaxTensor::contiguous() const {
  std::int64_t stride = 1;
  for (std::size_t i = axes.size(); i-- > 0;) {
    if (axes[i].stride != stride) return false;
    stride *= axes[i].size;
  }
  return true;
}

std::string normal_orbax_name(const std::vector<std::string>& path) {
  std::string name;
  for (const std::string& part : path) name += (name.empty() ? "" : ".") + part;
  std::ranges::replace(name, '/', '.');
  for (const std::string_view prefix : {"params.", "transformer."})
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  return name;
}

OrbaxMap::OrbaxMap(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (const auto layer = layer_of(name, kTextLayer); layer && layer->leaf.starts_with("mlp.router_logits"))
      expert_layers_.push_back(layer->number);
}

std::optional<std::vector<OrbaxTensor>> OrbaxMap::tensors_of(const std::string& name,
                                                             const std::vector<std::int64_t>& shape) const {
  const OrbaxPlace place = place_of(name, expert_layers_);
  const Bound bound = bound_of(place);
  const Rule* rule = bound.rule != nullptr ? bound.rule : rule_of(place);
  if (rule == nullptr) return std::nullopt;
  const bool is_bound = bound.rule != nullptr;
  const std::string_view order = is_bound ? std::string_view() : rule->order;
  const std::size_t targets = num_targets(*rule), choices = is_bound ? 1 : targets;
  const std::size_t choice_dim = place.stacked ? 1 : 0, begin = choice_dim + (choices > 1 ? 1 : 0);
  const auto num_dims = begin + static_cast<std::size_t>(std::ranges::count_if(order, [](char c) { return c != ' '; }));
  check_shape(name, shape, num_dims, choice_dim, choices);
  const std::vector<std::int64_t> strides = strides_of(shape);
  std::vector<OrbaxTensor> tensors;
  for (std::int64_t layer = 0; layer < (place.stacked ? shape[0] : 1); ++layer) {
    for (std::size_t i = 0; i < targets; ++i) {
      std::string target(rule->targets[i]);
      if (is_bound) target.replace(target.rfind(".weight"), std::string::npos, "." + std::string(bound.name));
      OrbaxTensor tensor{.name = place.prefix + (place.stacked ? std::to_string(layer) + "." : "") + target};
      tensor.first = (place.stacked ? layer * strides[0] : 0) +
                     (choices > 1 ? static_cast<std::int64_t>(i) * strides[choice_dim] : 0);
      add_axes(tensor, order, shape, begin);
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

}  // namespace bezel::gemma4
