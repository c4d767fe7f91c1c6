#include "bezel/gemma4/mmproj_export.h"

#include <cmath>
#include <filesystem>

#include <ATen/ATen.h>

#include "bezel/gemma4/gguf_parts.h"
#include "bezel/io/gguf_projectors.h"
#include "bezel/io/gguf_tower_map.h"
#include "bezel/io/regular_file.h"

namespace bezel::gemma4 {
namespace {

namespace fs = std::filesystem;
using io::GgufType;
using quant::GgufMix;
using quant::GgufPart;
using torch::Tensor;

constexpr std::uint32_t kBlocksVersion = 2;  // of ggml's block types
constexpr std::int64_t kImageSize = 224;     // is written there; images of Gemma 4 have no fixed size
constexpr float kNormEps = 1e-6f;

void set_count(io::NewGgufKeys& keys, const std::string& key, std::int64_t value) {
  keys.set(key, static_cast<std::uint32_t>(value));
}

/// The three numbers of `name` in the image processor's settings, where they say any.
std::vector<float> channels_of(const std::string& folder, const char* name, float otherwise) {
  for (const char* file : {"processor_config.json", "preprocessor_config.json"}) {
    const std::string path = (fs::path(folder) / file).string();
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    const io::JsonView config(json, path);
    auto found = config.find(name);
    if (const auto images = config.find("image_processor"); images && images->find(name)) found = images->find(name);
    if (!found) continue;
    std::vector<float> channels;
    for (const io::JsonView& value : found->elements()) channels.push_back(static_cast<float>(value.number()));
    if (channels.size() != 3) found->fail("three numbers");
    return channels;
  }
  return std::vector<float>(3, otherwise);
}

void set_vision(const VisionConfig& config, std::int64_t text_size, const std::string& folder, io::NewGgufKeys& keys) {
  keys.set("clip.has_vision_encoder", true);
  set_count(keys, "clip.vision.projection_dim", text_size);
  set_count(keys, "clip.vision.image_size", kImageSize);
  set_count(keys, "clip.vision.patch_size", config.patch_size);
  set_count(keys, "clip.vision.embedding_length", config.hidden_size);
  set_count(keys, "clip.vision.feed_forward_length", config.intermediate_size);
  set_count(keys, "clip.vision.block_count", config.num_layers);
  set_count(keys, "clip.vision.attention.head_count", config.num_heads);
  keys.set("clip.vision.image_mean", channels_of(folder, "image_mean", 0.0f));
  keys.set("clip.vision.image_std", channels_of(folder, "image_std", 1.0f));
  keys.set("clip.vision.projector_type", std::string(io::kTowerProjectors.vision));
  keys.set("clip.vision.attention.layer_norm_epsilon", kNormEps);
}

void set_audio(const AudioConfig& config, std::int64_t text_size, io::NewGgufKeys& keys) {
  keys.set("clip.has_audio_encoder", true);
  set_count(keys, "clip.audio.projection_dim", text_size);
  set_count(keys, "clip.audio.embedding_length", config.hidden_size);
  set_count(keys, "clip.audio.feed_forward_length", 4 * config.hidden_size);
  set_count(keys, "clip.audio.block_count", config.num_layers);
  set_count(keys, "clip.audio.attention.head_count", config.num_heads);
  keys.set("clip.audio.projector_type", std::string(io::kTowerProjectors.audio));
  set_count(keys, "clip.audio.num_mel_bins", AudioConfig::kMelBins);
  keys.set("clip.audio.attention.layer_norm_epsilon", kNormEps);
}

/// What config.json says of the 12B's patches; VisionConfig has their product alone.
struct PatchGrid {
  std::int64_t patch_size = 16;
  std::int64_t pooled = 3;  ///< patches along a side of a soft token
};

PatchGrid patch_grid_of(const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  const io::Json json = io::read_json_file(path);
  const io::JsonView vision = io::JsonView(json, path).at("vision_config");
  PatchGrid grid;
  if (const auto size = vision.find("patch_size")) grid.patch_size = size->whole(1, 1 << 20);
  if (const auto pooled = vision.find("pooling_kernel_size")) grid.pooled = pooled->whole(1, 1 << 20);
  return grid;
}

// The 12B has no layers there: what counts them is 0.
void set_unified(const ModelConfig& config, const std::string& folder, io::NewGgufKeys& keys) {
  const auto set_none = [&keys](const std::string& tower) {
    for (const char* name : {"feed_forward_length", "block_count", "attention.head_count"})
      set_count(keys, "clip." + tower + "." + name, 0);
  };
  if (config.vision) {
    const PatchGrid grid = patch_grid_of(folder);
    set_vision(*config.vision, config.text.hidden_size, folder, keys);
    set_none("vision");
    set_count(keys, "clip.vision.patch_size", grid.patch_size);
    if (grid.pooled != io::kUsualPooling) set_count(keys, "clip.vision.projector.scale_factor", grid.pooled);
    keys.set("clip.vision.projector_type", std::string(io::kEmbedderProjectors.vision));
  }
  if (config.audio) {
    set_audio(*config.audio, config.text.hidden_size, keys);
    set_none("audio");
    keys.set("clip.audio.projector_type", std::string(io::kEmbedderProjectors.audio));
  }
}

// Pixels of a patch as [row, column, channel] -> [channel, row, column].
Tensor channels_first(const Tensor& rows) {
  const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(rows.size(1)) / 3)));
  return rows.view({rows.size(0), side, side, 3}).permute({0, 3, 1, 2}).flatten(1);
}

// What the file has in another form than the checkpoint.
void reshape(GgufPart& part, std::int64_t patch_size) {
  if (part.name == "v.patch_embd.weight") {
    part.columns = part.shape[1];
    part.shape = {part.shape[0], 3, patch_size, patch_size};
    part.reorder = channels_first;
  } else if (part.name.ends_with(".conv_dw.weight")) {
    part.shape = {part.shape[0], part.shape[2]};
  } else if (part.name.ends_with(".per_dim_scale.weight")) {
    part.rows = quant::rows_of(at::softplus(part.rows(0, 1)));
  }
}

void reshape_unified(GgufPart& part) {
  if (part.name == "v.patch_embd.weight" || part.name.starts_with("v.patch_norm.1.")) {
    part.reorder = channels_first;
  } else if (part.name == "v.position_embd.weight") {  // of all columns, then of all rows
    const std::int64_t places = part.shape[0], width = part.shape[2];
    part.rows = quant::rows_of(part.rows(0, 2 * places).view({places, 2, width}).transpose(0, 1).contiguous());
    part.shape = {2, places, width};
  }
}

std::int64_t last_of(const std::vector<std::int64_t>& shape) { return shape.empty() ? 1 : shape.back(); }

GgufType type_of(const GgufPart& part, GgufMix mix) {
  const auto has = [&](const char* text) { return part.canonical.find(text) != std::string::npos; };
  const bool convolution = has("audio") && (has(".conv") || has("_conv"));
  const bool wide = part.shape.size() < 2 || !part.name.ends_with(".weight") || part.name.ends_with("_norm.weight");
  if (wide || convolution || has("position_embedding_table") || has("pos_embedding")) return GgufType::kF32;
  if (part.name == "v.patch_embd.weight") return mix == GgufMix::kF16 ? GgufType::kF16 : GgufType::kF32;
  return mix == GgufMix::kF32 ? GgufType::kF32 : mix == GgufMix::kF16 ? GgufType::kF16 : GgufType::kBF16;
}

bool is_floating(GgufMix mix) { return mix == GgufMix::kF32 || mix == GgufMix::kF16 || mix == GgufMix::kBF16; }

GgufExport plan_from_checkpoint(const std::string& folder, const ModelConfig& config, std::optional<GgufMix> mix) {
  Source source(folder);
  GgufExport made;
  made.parts = checkpoint_parts(source, config, io::gguf_tower_name, made.left_out);
  const GgufMix chosen = mix && is_floating(*mix) ? *mix : usual_mix(made.parts);
  for (GgufPart& part : made.parts) {
    if (config.is_unified())
      reshape_unified(part);
    else
      reshape(part, config.vision ? config.vision->patch_size : 0);
    part.type = type_of(part, chosen);
    part.may_be_infinite = is_clip_bound(part.name);
  }
  made.keys.set("general.architecture", "clip");
  made.keys.set("general.type", "mmproj");
  made.keys.set("general.name", fs::weakly_canonical(folder).filename().string());
  made.keys.set("general.file_type", static_cast<std::uint32_t>(chosen));
  if (config.is_unified()) {
    set_unified(config, folder, made.keys);
  } else {
    if (config.vision) set_vision(*config.vision, config.text.hidden_size, folder, made.keys);
    if (config.audio) set_audio(*config.audio, config.text.hidden_size, made.keys);
  }
  made.keys.set("general.quantization_version", kBlocksVersion);
  return made;
}

/// The towers' file of a GGUF model, as it is.
GgufExport plan_from_towers(const Source& source, const io::GgufFile& towers) {
  GgufExport made;
  for (const auto& [key, value] : towers.metadata())
    if (key != "general.alignment") made.keys.copy(value);
  for (const auto& [canonical, tensor] : source.all()) {
    const io::GgufModel::Entry& entry = tensor.gguf_entry;
    if (entry.file->path() != towers.path()) continue;
    GgufPart part{.canonical = canonical,
                  .name = tensor.stored,
                  .shape = entry.info->shape,
                  .type = entry.info->type,
                  .rows = tensor.is_packed() ? quant::rows_of(tensor.map(), entry.info->type)
                                             : quant::rows_of(tensor.map().reshape({-1, last_of(tensor.shape)})),
                  .as_stored = entry,
                  .evict = [tensor] { tensor.evict(); }};
    if (tensor.form != nullptr && (part.name == "v.patch_embd.weight" || part.name.starts_with("v.patch_norm.1."))) {
      part.columns = last_of(tensor.shape);
      part.reorder = channels_first;
    }
    made.parts.push_back(std::move(part));
  }
  return made;
}

}  // namespace

std::optional<GgufExport> plan_mmproj(const ModelFiles& files, std::optional<GgufMix> mix) {
  if (io::is_gguf_path(files.model)) {
    const io::GgufModel gguf = io::GgufModel::open(files.model, files.mmproj);
    if (gguf.towers() == nullptr) return std::nullopt;
    return plan_from_towers(Source(files.model, files.mmproj), *gguf.towers());
  }
  const ModelConfig config = read_model_config(files.model);
  if (!config.vision && !config.audio) return std::nullopt;
  return plan_from_checkpoint(files.model, config, mix);
}

}  // namespace bezel::gemma4
