#include "bezel/io/gguf_tower_map.h"

#include <algorithm>
#include <array>
#include <span>

namespace bezel::io {
namespace {

using Row = std::pair<std::string_view, std::string_view>;  // ours, llama.cpp's

// Layers and their norms below `model.vision_tower.encoder.layers.N.` and `v.blk.N.`.
constexpr std::array<Row, 13> kVisionRows{{{"self_attn.q_proj", "attn_q"},
                                           {"self_attn.k_proj", "attn_k"},
                                           {"self_attn.v_proj", "attn_v"},
                                           {"self_attn.o_proj", "attn_out"},
                                           {"self_attn.q_norm", "attn_q_norm"},
                                           {"self_attn.k_norm", "attn_k_norm"},
                                           {"mlp.gate_proj", "ffn_gate"},
                                           {"mlp.up_proj", "ffn_up"},
                                           {"mlp.down_proj", "ffn_down"},
                                           {"input_layernorm", "ln1"},
                                           {"post_attention_layernorm", "attn_post_norm"},
                                           {"pre_feedforward_layernorm", "ln2"},
                                           {"post_feedforward_layernorm", "ffn_post_norm"}}};
// The same below `model.audio_tower.layers.N.` and `a.blk.N.`.
constexpr std::array<Row, 21> kAudioRows{{{"self_attn.q_proj", "attn_q"},
                                          {"self_attn.k_proj", "attn_k"},
                                          {"self_attn.v_proj", "attn_v"},
                                          {"self_attn.post", "attn_out"},
                                          {"self_attn.relative_k_proj", "attn_k_rel"},
                                          {"norm_pre_attn", "attn_pre_norm"},
                                          {"norm_post_attn", "attn_post_norm"},
                                          {"norm_out", "ln2"},
                                          {"feed_forward1.pre_layer_norm", "ffn_norm"},
                                          {"feed_forward1.ffw_layer_1", "ffn_up"},
                                          {"feed_forward1.ffw_layer_2", "ffn_down"},
                                          {"feed_forward1.post_layer_norm", "ffn_post_norm"},
                                          {"feed_forward2.pre_layer_norm", "ffn_norm_1"},
                                          {"feed_forward2.ffw_layer_1", "ffn_up_1"},
                                          {"feed_forward2.ffw_layer_2", "ffn_down_1"},
                                          {"feed_forward2.post_layer_norm", "ffn_post_norm_1"},
                                          {"lconv1d.pre_layer_norm", "conv_norm"},
                                          {"lconv1d.linear_start", "conv_pw1"},
                                          {"lconv1d.depthwise_conv1d", "conv_dw"},
                                          {"lconv1d.conv_norm", "norm_conv"},
                                          {"lconv1d.linear_end", "conv_pw2"}}};
// Layers outside of the numbered ones.
constexpr std::array<Row, 9> kSingle{
    {{"model.vision_tower.patch_embedder.input_proj", "v.patch_embd"},
     {"model.embed_vision.embedding_projection", "mm.input_projection"},
     {"model.embed_audio.embedding_projection", "mm.a.input_projection"},
     {"model.audio_tower.output_proj", "a.pre_encode.out"},
     {"model.audio_tower.subsample_conv_projection.input_proj_linear", "a.input_projection"},
     {"model.audio_tower.subsample_conv_projection.layer0.conv", "a.conv1d.0"},
     {"model.audio_tower.subsample_conv_projection.layer0.norm", "a.conv1d.0.norm"},
     {"model.audio_tower.subsample_conv_projection.layer1.conv", "a.conv1d.1"},
     {"model.audio_tower.subsample_conv_projection.layer1.norm", "a.conv1d.1.norm"}}};
// The 12B's, whose files have names of the towers' again.
constexpr std::array<Row, 6> kUnified{
    {{"model.embed_vision.multimodal_embedder.embedding_projection", "mm.input_projection"},
     {"model.embed_audio.embedding_projection", "mm.a.input_projection"},
     {"model.embed_vision.patch_dense", "v.patch_embd"},
     {"model.embed_vision.patch_ln1", "v.patch_norm.1"},
     {"model.embed_vision.patch_ln2", "v.patch_norm.2"},
     {"model.embed_vision.pos_norm", "v.patch_norm.3"}}};
// What is no layer's: whole names.
constexpr std::array<Row, 3> kWhole{
    {{"model.vision_tower.patch_embedder.position_embedding_table", "v.position_embd.weight"},
     {"model.vision_tower.std_bias", "v.std_bias"},
     {"model.vision_tower.std_scale", "v.std_scale"}}};
constexpr std::array<Row, 1> kUnifiedWhole{{{"model.embed_vision.pos_embedding", "v.position_embd.weight"}}};
// Whole names below a layer of the audio tower.
constexpr std::array<Row, 1> kAudioWhole{{{"self_attn.per_dim_scale", "per_dim_scale.weight"}}};
constexpr std::array<std::string_view, 6> kSuffixes{".weight",    ".bias",       ".input_min",
                                                    ".input_max", ".output_min", ".output_max"};
constexpr Row kVisionLayerNames{"model.vision_tower.encoder.layers.", "v.blk."};
constexpr Row kAudioLayerNames{"model.audio_tower.layers.", "a.blk."};

using Side = std::string_view Row::*;

std::optional<std::string> found_in(std::span<const Row> rows, std::string_view name, Side from, Side to) {
  const auto row = std::ranges::find(rows, name, from);
  return row == rows.end() ? std::nullopt : std::optional(std::string((*row).*to));
}

// A layer, and the rest of its name.
std::optional<std::string> with_suffix(std::span<const Row> rows, std::string_view name, Side from, Side to) {
  for (const std::string_view suffix : kSuffixes)
    if (name.ends_with(suffix))
      if (const auto layer = found_in(rows, name.substr(0, name.size() - suffix.size()), from, to))
        return *layer + std::string(suffix);
  return std::nullopt;
}

std::optional<std::string> in_layers(const Row& layers, std::span<const Row> rows, std::span<const Row> whole,
                                     std::string_view name, Side from, Side to) {
  if (!name.starts_with(layers.*from)) return std::nullopt;
  name.remove_prefix((layers.*from).size());
  const std::size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || name.find_first_not_of("0123456789") != dot) return std::nullopt;
  const std::string_view number = name.substr(0, dot + 1), rest = name.substr(dot + 1);
  auto made = found_in(whole, rest, from, to);
  if (!made) made = with_suffix(rows, rest, from, to);
  if (!made) return std::nullopt;
  return std::string(layers.*to).append(number).append(*made);
}

std::optional<std::string> renamed_in_towers(std::string_view name, Side from, Side to) {
  if (auto made = found_in(kWhole, name, from, to)) return made;
  if (auto made = with_suffix(kSingle, name, from, to)) return made;
  if (auto made = in_layers(kVisionLayerNames, kVisionRows, {}, name, from, to)) return made;
  return in_layers(kAudioLayerNames, kAudioRows, kAudioWhole, name, from, to);
}

std::optional<std::string> renamed_unified(std::string_view name, Side from, Side to) {
  if (auto made = found_in(kUnifiedWhole, name, from, to)) return made;
  return with_suffix(kUnified, name, from, to);
}

}  // namespace

std::optional<std::string> gguf_tower_name(std::string_view canonical) {
  if (auto made = renamed_in_towers(canonical, &Row::first, &Row::second)) return made;
  return renamed_unified(canonical, &Row::first, &Row::second);
}

std::optional<std::string> canonical_gguf_tower_name(std::string_view stored) {
  return renamed_in_towers(stored, &Row::second, &Row::first);
}

std::optional<std::string> canonical_gguf_embedder_name(std::string_view stored) {
  return renamed_unified(stored, &Row::second, &Row::first);
}

}  // namespace bezel::io
