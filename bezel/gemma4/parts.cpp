#include "bezel/gemma4/parts.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace bezel::gemma4 {
namespace {

using input::MediaKind;

constexpr std::string_view kAttentionAndMlp[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};
constexpr std::string_view kConformer[] = {"q_proj",      "k_proj",      "v_proj",       "post",
                                           "ffw_layer_1", "ffw_layer_2", "linear_start", "linear_end"};
constexpr std::string_view kProjection[] = {"embedding_projection"};
constexpr std::string_view kPatchProjection[] = {"patch_dense"};
constexpr std::string_view kPatchEmbedder[] = {"patch_ln1", "patch_dense", "patch_ln2", "pos_embedding", "pos_norm"};

Part decoder_part() {
  return {.tower = Tower::kLanguage,
          .label = "language",
          .module = "model.language_model",
          .layer_list = "layers",
          .default_targets = kAttentionAndMlp};
}

Part projector_part(MediaKind media, std::string_view label, std::string_view module, Family family) {
  return {.kind = PartKind::kProjector,
          .media = media,
          .tower = Tower::kProjectors,
          .label = label,
          .module = module,
          .default_targets = kProjection,
          .family = family};
}

// Of a model without towers: its projector is a child of it.
Part patch_embedder_part() {
  return {.kind = PartKind::kEncoder,
          .media = MediaKind::kImage,
          .tower = Tower::kVision,
          .label = "vision",
          .module = "model.embed_vision",
          .children = kPatchEmbedder,
          .default_targets = kPatchProjection,
          .family = Family::kGemma4Unified};
}

const std::array<Part, 8>& all_parts() {
  constexpr Family kTowered = Family::kGemma4, kUnified = Family::kGemma4Unified;
  static const std::array<Part, 8> parts{
      decoder_part(),
      patch_embedder_part(),
      projector_part(MediaKind::kImage, "vision projector", "model.embed_vision.multimodal_embedder", kUnified),
      projector_part(MediaKind::kAudio, "audio projector", "model.embed_audio", kUnified),
      Part{.kind = PartKind::kEncoder,
           .media = MediaKind::kImage,
           .tower = Tower::kVision,
           .label = "vision",
           .module = "model.vision_tower",
           .layer_list = "encoder.layers",
           .default_targets = kAttentionAndMlp},
      projector_part(MediaKind::kImage, "vision projector", "model.embed_vision", kTowered),
      Part{.kind = PartKind::kEncoder,
           .media = MediaKind::kAudio,
           .tower = Tower::kAudio,
           .label = "audio",
           .module = "model.audio_tower",
           .layer_list = "layers",
           .default_targets = kConformer},
      projector_part(MediaKind::kAudio, "audio projector", "model.embed_audio", kTowered)};
  return parts;
}

void set_decoder_sizes(const TextConfig& config, Part& part) {
  part.hidden_size = config.hidden_size;
  for (const TextLayerConfig& layer : config.layers)
    part.layers.push_back(
        {.input_width = config.hidden_size + config.hidden_size_per_layer_input,
         .hidden_size = config.hidden_size,
         .feed_forward = layer.intermediate_size + config.top_k_experts * config.moe_intermediate_size,
         .attention = config.num_heads * layer.head_dim});
}

void set_encoder_sizes(const VisionConfig& config, Part& part) {
  part.hidden_size = config.hidden_size;
  part.layers.assign(static_cast<std::size_t>(config.num_layers), {.input_width = config.hidden_size,
                                                                   .hidden_size = config.hidden_size,
                                                                   .feed_forward = config.intermediate_size,
                                                                   .attention = config.num_heads * config.head_dim});
}

// Two feed-forwards of width 4 H and a convolution make a layer hold twice what a decoder layer of its width does.
void set_encoder_sizes(const AudioConfig& config, Part& part) {
  part.hidden_size = config.hidden_size;
  part.layers.assign(static_cast<std::size_t>(config.num_layers), {.input_width = config.hidden_size,
                                                                   .hidden_size = 2 * config.hidden_size,
                                                                   .feed_forward = 8 * config.hidden_size,
                                                                   .attention = config.hidden_size});
}

// False where the model has no such part.
bool set_sizes(const ModelConfig& config, Part& part) {
  if (part.kind == PartKind::kDecoder) {
    set_decoder_sizes(config.text, part);
    return true;
  }
  const auto set = [&](const auto& encoder) {
    if (!encoder || part.family != config.family) return false;
    if (part.kind == PartKind::kEncoder) set_encoder_sizes(*encoder, part);
    if (part.kind == PartKind::kProjector) part.hidden_size = config.text.hidden_size;
    return true;
  };
  return *part.media == MediaKind::kImage ? set(config.vision) : set(config.audio);
}

// Takes `prefix` and a dot off the begin of `name`.
bool drop_prefix(std::string_view& name, std::string_view prefix) {
  if (prefix.empty() || !name.starts_with(prefix) || name.substr(prefix.size(), 1) != ".") return false;
  name.remove_prefix(prefix.size() + 1);
  return true;
}

// Whether `name`, below the module of `part`, belongs to it.
bool is_child(const Part& part, std::string_view name) {
  return part.children.empty() ||
         std::ranges::find(part.children, name.substr(0, name.find('.'))) != part.children.end();
}

// Takes "12." off the begin of `name`; -1 where it begins otherwise.
std::int64_t drop_number(std::string_view& name) {
  std::int64_t number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || number < 0 || end == name.data() + name.size() || *end != '.') return -1;
  name.remove_prefix(static_cast<std::size_t>(end - name.data()) + 1);
  return number;
}

}  // namespace

std::string_view tower_name(Tower tower) {
  switch (tower) {
    case Tower::kLanguage:
      return "language";
    case Tower::kVision:
      return "vision";
    case Tower::kAudio:
      return "audio";
    case Tower::kProjectors:
      return "projectors";
    case Tower::kExperts:
      return "experts";
  }
  return "";
}

std::span<const Part> known_parts() { return all_parts(); }

std::vector<Part> parts_of(const ModelConfig& config) {
  std::vector<Part> parts;
  for (Part part : known_parts())
    if (set_sizes(config, part)) parts.push_back(std::move(part));
  return parts;
}

const Part* known_part(Family family, PartKind kind, MediaKind media) {
  const auto& parts = all_parts();
  const auto* const found = std::ranges::find_if(
      parts, [&](const Part& part) { return part.kind == kind && part.media == media && part.family == family; });
  return found == parts.end() ? nullptr : &*found;
}

const Part* find_part(std::span<const Part> parts, PartKind kind, std::optional<MediaKind> media) {
  const auto found = std::ranges::find_if(
      parts, [&](const Part& part) { return part.kind == kind && (!media || part.media == media); });
  return found == parts.end() ? nullptr : &*found;
}

Place place_of(std::string_view canonical, std::span<const Part> parts) {
  for (const Part& part : parts) {
    std::string_view name = canonical;
    if (!drop_prefix(name, part.module) || !is_child(part, name)) continue;
    Place place{.part = &part, .name = name};
    if (!drop_prefix(name, part.layer_list)) return place;
    place.layer = drop_number(name);
    if (place.layer >= 0) place.name = name;
    return place;
  }
  return {.name = canonical};
}

}  // namespace bezel::gemma4
