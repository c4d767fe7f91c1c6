#include "bezel/gemma4/mmproj_config.h"

#include <algorithm>

#include "bezel/error.h"
#include "bezel/io/gguf_projectors.h"

namespace bezel::gemma4 {
namespace {

using io::GgufFile;
using io::GgufValue;

std::int64_t count(const GgufFile& file, const std::string& key) { return file.at(key).whole(1, kMaxDim); }

/// The shape of a tensor of that many dimensions.
const std::vector<std::int64_t>& shape_of(const GgufFile& file, const std::string& name, std::size_t dims) {
  const io::GgufTensor* tensor = file.find(name);
  if (tensor == nullptr) throw Error(file.path(), ": tensor '", name, "' is missing");
  if (tensor->shape.size() != dims)
    throw Error(file.path(), ": tensor '", name, "' has ", tensor->shape.size(), " dimensions, expected ", dims);
  return tensor->shape;
}

bool has_bounds(const GgufFile& file, std::string_view prefix) {
  return std::ranges::any_of(file.tensors(), [&](const io::GgufTensor& tensor) {
    return tensor.name.starts_with(prefix) && (tensor.name.ends_with("_min") || tensor.name.ends_with("_max"));
  });
}

VisionConfig read_vision(const GgufFile& file) {
  VisionConfig vision;
  vision.hidden_size = count(file, "clip.vision.embedding_length");
  vision.intermediate_size = count(file, "clip.vision.feed_forward_length");
  vision.num_layers = count(file, "clip.vision.block_count");
  vision.num_heads = count(file, "clip.vision.attention.head_count");
  vision.patch_size = count(file, "clip.vision.patch_size");
  vision.head_dim = shape_of(file, "v.blk.0.attn_q_norm.weight", 1).front();
  const std::int64_t key_rows = shape_of(file, "v.blk.0.attn_k.weight", 2).front();
  vision.num_kv_heads = std::max<std::int64_t>(1, key_rows / vision.head_dim);
  if (vision.head_dim % 4 != 0 || vision.num_heads % vision.num_kv_heads != 0)
    file.at("clip.vision.attention.head_count").fail("heads of a multiple of 4, shared evenly by those of keys");
  vision.position_embedding_size = shape_of(file, "v.position_embd.weight", 3)[1];
  if (const GgufValue* eps = file.get("clip.vision.attention.layer_norm_epsilon")) vision.rms_norm_eps = eps->number();
  vision.use_clipped_linears = has_bounds(file, "v.blk.");
  vision.standardize = file.find("v.std_bias") != nullptr;
  return vision;
}

AudioConfig read_audio(const GgufFile& file) {
  AudioConfig audio;
  audio.hidden_size = count(file, "clip.audio.embedding_length");
  audio.num_layers = count(file, "clip.audio.block_count");
  audio.num_heads = count(file, "clip.audio.attention.head_count");
  if (audio.hidden_size % audio.num_heads != 0)
    file.at("clip.audio.attention.head_count").fail("a divisor of embedding_length");
  for (const std::int64_t idx : {0, 1})
    audio.subsampling_channels[idx] = shape_of(file, "a.conv1d." + std::to_string(idx) + ".weight", 4).front();
  audio.conv_kernel_size = shape_of(file, "a.blk.0.conv_dw.weight", 2).back();
  audio.output_proj_dims = shape_of(file, "a.pre_encode.out.weight", 2).front();
  if (const GgufValue* eps = file.get("clip.audio.attention.layer_norm_epsilon")) audio.rms_norm_eps = eps->number();
  audio.use_clipped_linears = has_bounds(file, "a.blk.");
  return audio;
}

// Patches as large as a soft token, of several of the file's along a side.
VisionConfig read_patches(const GgufFile& file) {
  VisionConfig vision{.num_layers = 0, .pooling_kernel_size = 1};
  vision.hidden_size = count(file, "clip.vision.embedding_length");
  vision.patch_size = file.at("clip.vision.patch_size").whole(1, 256);
  const GgufValue* pooled = file.get("clip.vision.projector.scale_factor");
  vision.patch_size *= pooled == nullptr ? io::kUsualPooling : pooled->whole(1, 64);
  vision.position_embedding_size = shape_of(file, "v.position_embd.weight", 3)[1];
  if (const GgufValue* eps = file.get("clip.vision.attention.layer_norm_epsilon")) vision.rms_norm_eps = eps->number();
  return vision;
}

AudioConfig read_frames(const GgufFile& file) {
  AudioConfig audio{.num_layers = 0, .use_clipped_linears = false};
  audio.hidden_size = count(file, "clip.audio.embedding_length");
  audio.output_proj_dims = audio.hidden_size;
  if (const GgufValue* eps = file.get("clip.audio.attention.layer_norm_epsilon")) audio.rms_norm_eps = eps->number();
  return audio;
}

/// Ids of the placeholder tokens of media.
class Placeholders {
 public:
  explicit Placeholders(const GgufFile& file) : file_(file), words_(file.at("tokenizer.ggml.tokens").texts()) {}

  std::optional<std::int64_t> find(std::string_view word) const {
    const auto found = std::ranges::find(words_, word);
    return found == words_.end() ? std::nullopt : std::optional<std::int64_t>(found - words_.begin());
  }
  std::int64_t at(std::string_view word) const {
    if (const auto id = find(word)) return *id;
    throw Error(file_.path(), ": key 'tokenizer.ggml.tokens' has no word '", word,
                "', which stands for what a tower reads");
  }

 private:
  const GgufFile& file_;
  std::vector<std::string_view> words_;
};

bool has(const GgufFile& file, const char* key) {
  const GgufValue* value = file.get(key);
  return value != nullptr && value->boolean();
}

// Images and audio are of one model.
void require_projector(const GgufFile& file, const char* key, std::string_view type) {
  if (const GgufValue& value = file.at(key); value.text() != type)
    value.fail("'" + std::string(type) +
               "', which goes with the file's other projector type; the file mixes two models");
}

// No key says how images see themselves.
void set_unified(ModelConfig& config) {
  config.family = Family::kGemma4Unified;
  config.text.bidirectional_vision = true;
  config.text.image_attention = ImageAttention::kAllLayers;
}

}  // namespace

void read_mmproj_config(const io::GgufModel& model, ModelConfig& config) {
  const GgufFile& towers = *model.towers();
  const Placeholders placeholders(model.metadata());
  config.text_only = false;
  const bool unified = io::are_embedders(towers);
  const io::ProjectorTypes& types = unified ? io::kEmbedderProjectors : io::kTowerProjectors;
  if (has(towers, "clip.has_vision_encoder")) {
    require_projector(towers, "clip.vision.projector_type", types.vision);
    config.vision = unified ? read_patches(towers) : read_vision(towers);
    // No key says it: among released models, those without per-layer embeddings see all of an image at once.
    config.text.bidirectional_vision = config.text.hidden_size_per_layer_input == 0;
    config.placeholder_ids.of[input::MediaKind::kImage] = placeholders.at("<|image|>");
    std::int64_t& video = config.placeholder_ids.of[input::MediaKind::kVideo];
    video = placeholders.find("<|video|>").value_or(video);
  }
  if (has(towers, "clip.has_audio_encoder")) {
    require_projector(towers, "clip.audio.projector_type", types.audio);
    config.audio = unified ? read_frames(towers) : read_audio(towers);
    config.placeholder_ids.of[input::MediaKind::kAudio] = placeholders.at("<|audio|>");
  }
  if (unified) set_unified(config);
}

}  // namespace bezel::gemma4
