#include "bezel/io/key_map.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "bezel/error.h"

namespace bezel::io {
namespace {

constexpr std::string_view kVision = "model.vision_tower.encoder.layers.";
constexpr std::string_view kAudio = "model.audio_tower.layers.";
constexpr std::string_view kText = "model.language_model.";
constexpr std::string_view kTextLayers = "model.language_model.layers.";
constexpr std::string_view kGgufLayers = "blk.";
constexpr std::string_view kLinear = ".linear";
constexpr std::string_view kAdapterPrefix = "base_model.model.";
// Parts that PEFT stores without `.weight`: DoRA's vector, and what it trains of tables.
constexpr std::string_view kTokenRows = "token_adapter.trainable_tokens_delta";
constexpr std::array<std::string_view, 4> kBareParts = {"lora_magnitude_vector", "lora_embedding_A", "lora_embedding_B",
                                                        kTokenRows};

constexpr std::array<std::string_view, 7> kVisionLayers = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                           "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                                           "mlp.down_proj"};
constexpr std::array<std::string_view, 10> kAudioLayers = {
    "self_attn.q_proj",          "self_attn.k_proj",          "self_attn.v_proj",          "self_attn.post",
    "feed_forward1.ffw_layer_1", "feed_forward1.ffw_layer_2", "feed_forward2.ffw_layer_1", "feed_forward2.ffw_layer_2",
    "lconv1d.linear_start",      "lconv1d.linear_end"};
// Children of Gemma4Model, under `model.` unless a bare Gemma4Model was saved.
constexpr std::array<std::string_view, 6> kModelChildren = {"language_model", "vision_tower",    "audio_tower",
                                                            "embed_vision",   "vision_embedder", "embed_audio"};
// Of the unified model: children of embed_vision that a checkpoint keeps below vision_embedder.
constexpr std::array<std::string_view, 5> kPatchEmbedder = {"patch_ln1", "patch_dense", "patch_ln2", "pos_embedding",
                                                            "pos_norm"};
constexpr std::string_view kVisionEmbedder = "model.vision_embedder.";
constexpr std::string_view kEmbedVision = "model.embed_vision.";
constexpr std::string_view kProjection = "embedding_projection";
constexpr std::string_view kInnerProjector = "multimodal_embedder.";
// Children of Gemma4TextModel, which a text-only checkpoint keeps right under `model.`.
constexpr std::array<std::string_view, 6> kTextChildren = {"layers",
                                                           "embed_tokens",
                                                           "embed_tokens_per_layer",
                                                           "norm",
                                                           "per_layer_model_projection",
                                                           "per_layer_projection_norm"};
using GgufName = std::pair<std::string_view, std::string_view>;  // ours, llama.cpp's
// Tensors of a decoder layer: below `model.language_model.layers.N.`, and below `blk.N.` in a GGUF file. Reference:
// gguf's MODEL_ARCH.GEMMA4 and GEMMA3, llama.cpp's conversion/gemma.py.
constexpr std::array<GgufName, 25> kGgufLayerNames{{{"self_attn.q_proj.weight", "attn_q.weight"},
                                                    {"self_attn.k_proj.weight", "attn_k.weight"},
                                                    {"self_attn.v_proj.weight", "attn_v.weight"},
                                                    {"self_attn.o_proj.weight", "attn_output.weight"},
                                                    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
                                                    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
                                                    {"mlp.gate_proj.weight", "ffn_gate.weight"},
                                                    {"mlp.up_proj.weight", "ffn_up.weight"},
                                                    {"mlp.down_proj.weight", "ffn_down.weight"},
                                                    {"input_layernorm.weight", "attn_norm.weight"},
                                                    {"post_attention_layernorm.weight", "post_attention_norm.weight"},
                                                    {"pre_feedforward_layernorm.weight", "ffn_norm.weight"},
                                                    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
                                                    {"layer_scalar", "layer_output_scale.weight"},
                                                    {"per_layer_input_gate.weight", "inp_gate.weight"},
                                                    {"per_layer_projection.weight", "proj.weight"},
                                                    {"post_per_layer_input_norm.weight", "post_norm.weight"},
                                                    {"router.proj.weight", "ffn_gate_inp.weight"},
                                                    {"router.scale", "ffn_gate_inp.scale"},
                                                    {"router.per_expert_scale", "ffn_down_exps.scale"},
                                                    {"experts.gate_up_proj", "ffn_gate_up_exps.weight"},
                                                    {"experts.down_proj", "ffn_down_exps.weight"},
                                                    {"pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight"},
                                                    {"post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight"},
                                                    {"post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight"}}};
// The others, whole.
constexpr std::array<GgufName, 6> kGgufNames{
    {{"model.language_model.embed_tokens.weight", "token_embd.weight"},
     {"model.language_model.norm.weight", "output_norm.weight"},
     {"model.language_model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"},
     {"model.language_model.per_layer_model_projection.weight", "per_layer_model_proj.weight"},
     {"model.language_model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"},
     {"lm_head.weight", "output.weight"}}};
constexpr std::array<std::string_view, 4> kBounds = {".input_min", ".input_max", ".output_min", ".output_max"};

bool drop_prefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Whether `name` is `segments` or below it.
bool is_or_below(std::string_view name, std::string_view segments) {
  return drop_prefix(name, segments) && (name.empty() || name.front() == '.');
}

bool is_bound(std::string_view suffix) { return std::find(kBounds.begin(), kBounds.end(), suffix) != kBounds.end(); }

bool drop_suffix(std::string_view& text, std::string_view suffix) {
  if (text.size() < suffix.size() || text.substr(text.size() - suffix.size()) != suffix) return false;
  text.remove_suffix(suffix.size());
  return true;
}

// Removes "12." from the front.
bool drop_layer_number(std::string_view& text) {
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (digits == 0 || digits >= text.size() || text[digits] != '.') return false;
  text.remove_prefix(digits + 1);
  return true;
}

// Length of the clippable module that `name` begins with (up to a '.' or the end), 0 when it does not begin with one.
std::size_t clippable_length(std::string_view name) {
  std::string_view rest = name;
  const auto length_with = [&](const auto& layers) -> std::size_t {
    if (!drop_layer_number(rest)) return 0;
    for (const std::string_view layer : layers)
      if (is_or_below(rest, layer)) return name.size() - rest.size() + layer.size();
    return 0;
  };
  if (drop_prefix(rest, kVision)) return length_with(kVisionLayers);
  if (drop_prefix(rest, kAudio)) return length_with(kAudioLayers);
  return 0;
}

// Drops `second` in front of `text` where it follows `first`.
bool drop_after(std::string_view text, std::string_view first, std::string_view second, std::string& out) {
  std::string_view rest = text;
  if (!drop_prefix(rest, first) || !drop_prefix(rest, second)) return false;
  out = std::string(first).append(rest);
  return true;
}

// The name under `model.`, in the spellings of other saves that transformers 5.23 reads too: a `model.` more or less,
// and the decoder of Gemma4ForCausalLM inside of Gemma4Model.
std::string with_model_prefix(std::string_view name) {
  std::string out(name);
  if (drop_after(name, "", "model.model.", out)) return with_model_prefix("model." + out);
  if (drop_after(name, kText, "model.", out)) return out;
  std::string_view rest = name;
  if (drop_prefix(rest, "model.") && is_or_below(rest, "lm_head")) return std::string(rest);
  const auto leads = [&](std::string_view child) { return is_or_below(name, child); };
  if (name.starts_with("language_model.model.") || name.starts_with("language_model.lm_head.")) return out;
  if (std::ranges::any_of(kModelChildren, leads) || std::ranges::any_of(kTextChildren, leads))
    return std::string("model.").append(name);
  return out;
}

std::string with_text_prefix(std::string_view name) {
  std::string_view rest = name;
  if (drop_prefix(rest, "model."))
    for (const std::string_view child : kTextChildren)
      if (is_or_below(rest, child)) return std::string(kText).append(rest);
  return std::string(name);
}

// The patch embedder of the unified model by the name of its module.
std::string with_embedder_prefix(std::string name) {
  std::string_view rest = name;
  return drop_prefix(rest, kVisionEmbedder) ? std::string(kEmbedVision).append(rest) : name;
}

// The inverse, for it and the projector inside.
std::string without_embedder_prefix(std::string_view name) {
  std::string_view rest = name;
  if (is_patch_embedder(name) && drop_prefix(rest, kEmbedVision)) return std::string(kVisionEmbedder).append(rest);
  if (drop_prefix(rest, kEmbedVision) && drop_prefix(rest, kInnerProjector))
    return std::string(kEmbedVision).append(rest);
  return std::string(name);
}

std::string without_text_prefix(std::string_view name) {
  std::string_view rest = name;
  return drop_prefix(rest, kText) ? std::string("model.").append(rest) : std::string(name);
}

// `name`, which one side of the tables spells, as the other side does.
std::optional<std::string> renamed(std::string_view name, std::string_view GgufName::*from,
                                   std::string_view from_layers, std::string_view GgufName::*to,
                                   std::string_view to_layers) {
  for (const GgufName& row : kGgufNames)
    if (row.*from == name) return std::string(row.*to);
  if (!drop_prefix(name, from_layers)) return std::nullopt;
  const std::string_view numbered = name;
  if (!drop_layer_number(name)) return std::nullopt;
  const std::string_view number = numbered.substr(0, numbered.size() - name.size());
  for (const GgufName& row : kGgufLayerNames)
    if (row.*from == name) return std::string(to_layers).append(number).append(row.*to);
  return std::nullopt;
}

}  // namespace

bool is_patch_embedder(std::string_view canonical) {
  return drop_prefix(canonical, kEmbedVision) &&
         std::ranges::any_of(kPatchEmbedder, [&](std::string_view child) { return is_or_below(canonical, child); });
}

std::string unified_name(std::string_view canonical) {
  std::string_view rest = canonical;
  if (!drop_prefix(rest, kEmbedVision) || !is_or_below(rest, kProjection)) return std::string(canonical);
  return std::string(kEmbedVision).append(kInnerProjector).append(rest);
}

bool is_clippable_module(std::string_view module) {
  return !module.empty() && clippable_length(module) == module.size();
}

std::string canonical_tensor_name(std::string_view spelled) {
  const std::string stored_name = with_model_prefix(spelled);
  const std::string_view stored = stored_name;
  const std::size_t module = clippable_length(stored);
  if (module == 0) return with_embedder_prefix(with_text_prefix(stored));
  std::string_view rest = stored.substr(module);
  // `.linear.weight`, and what quantizers store beside it: `.linear.weight.absmax`, `.linear.weight_scale`,
  // `.linear.SCB`. The bounds are never below `.linear`.
  std::string_view inner = rest;
  if (drop_prefix(inner, kLinear) && inner.substr(0, 1) == "." && !is_bound(inner)) rest = inner;
  return std::string(stored.substr(0, module)).append(rest);
}

std::string stored_tensor_name(std::string_view canonical, KeyLayout layout, bool text_only) {
  const std::size_t module = clippable_length(canonical);
  if (module == 0) return text_only ? without_text_prefix(canonical) : without_embedder_prefix(canonical);
  const std::string_view rest = canonical.substr(module);
  if (layout == KeyLayout::kFlat || is_bound(rest) || rest.empty()) return std::string(canonical);
  return std::string(canonical.substr(0, module)).append(kLinear).append(rest);
}

std::string respelt_tensor_name(std::string_view stored, KeyLayout layout) {
  std::string name = with_model_prefix(stored);
  return clippable_length(name) == 0 ? name : stored_tensor_name(canonical_tensor_name(name), layout);
}

KeyLayout detect_layout(const std::vector<std::string>& stored_names) {
  std::unordered_map<std::string, const std::string*> seen;
  KeyLayout layout = KeyLayout::kNested;
  for (const std::string& stored : stored_names) {
    std::string canonical = canonical_tensor_name(stored);
    const std::string name = with_model_prefix(stored);
    const std::size_t module = clippable_length(name);
    if (module > 0 && name.substr(module) == ".weight") layout = KeyLayout::kFlat;
    const auto [place, fresh] = seen.emplace(std::move(canonical), &stored);
    if (!fresh)
      throw Error("tensors '", *place->second, "' and '", stored,
                  "' are two spellings of one tensor; keep one of them");
  }
  return layout;
}

std::optional<std::string> canonical_gguf_name(std::string_view stored) {
  return renamed(stored, &GgufName::second, kGgufLayers, &GgufName::first, kTextLayers);
}

std::optional<std::string> gguf_tensor_name(std::string_view canonical) {
  return renamed(canonical, &GgufName::first, kTextLayers, &GgufName::second, kGgufLayers);
}

std::string peft_module_name(std::string_view canonical_module, bool text_only, KeyLayout layout) {
  if (is_clippable_module(canonical_module))
    return std::string(canonical_module).append(layout == KeyLayout::kNested ? kLinear : "");
  return text_only ? without_text_prefix(canonical_module) : std::string(canonical_module);
}

std::string canonical_module_name(std::string_view module) {
  const std::string name = with_model_prefix(module);
  std::string_view base = name;
  if (drop_suffix(base, kLinear) && is_clippable_module(base)) return std::string(base);
  return with_embedder_prefix(with_text_prefix(name));
}

namespace {

bool is_bare(std::string_view part) { return std::ranges::find(kBareParts, part) != kBareParts.end(); }

}  // namespace

std::optional<AdapterKey> parse_adapter_key(std::string_view key) {
  if (!drop_prefix(key, kAdapterPrefix)) return std::nullopt;
  const bool has_weight = drop_suffix(key, ".weight");
  drop_suffix(key, ".default");
  const bool is_rows = key.ends_with(kTokenRows) && key.size() > kTokenRows.size();
  const std::size_t dot = is_rows ? key.size() - kTokenRows.size() - 1 : key.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return std::nullopt;
  const std::string_view part = key.substr(dot + 1);
  if (!has_weight && !is_bare(part)) return std::nullopt;
  if (!is_rows && part.substr(0, 5) != "lora_") return std::nullopt;
  return AdapterKey{canonical_module_name(key.substr(0, dot)), std::string(part), std::string(key.substr(0, dot))};
}

std::optional<std::string> saved_module_of(std::string_view key) {
  if (!drop_prefix(key, kAdapterPrefix) || !drop_suffix(key, ".weight")) return std::nullopt;
  if (key.find("lora_") != key.npos || key.find("token_adapter") != key.npos) return std::nullopt;
  drop_suffix(key, ".default");
  if (!drop_suffix(key, ".modules_to_save")) drop_suffix(key, ".base_layer");
  return key.empty() ? std::nullopt : std::optional(canonical_module_name(key));
}

std::string adapter_key(std::string_view canonical_module, std::string_view part, bool text_only, KeyLayout layout) {
  return std::string(kAdapterPrefix)
      .append(peft_module_name(canonical_module, text_only, layout))
      .append(".")
      .append(part)
      .append(is_bare(part) ? "" : ".weight");
}

std::string saved_module_key(std::string_view canonical_module, bool text_only) {
  return std::string(kAdapterPrefix).append(peft_module_name(canonical_module, text_only)).append(".weight");
}

}  // namespace bezel::io
