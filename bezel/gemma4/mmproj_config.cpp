#include "bezel/gemma4/mmproj_config.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

using io::GgufFile;
using io::GgufValue;

constexpr std::int64_t kMaxDim = 1 << 24;

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

}  // namespace

void read_mmproj_config(const io::GgufModel& model, ModelConfig& config) {
  const GgufFile& towers = *model.towers();
  const Placeholders placeholders(model.metadata());
  config.text_only = false;
  if (has(towers, "clip.has_vision_encoder")) {
    config.vision = read_vision(towers);
    // No key says it: among released models, those without per-layer embeddings see all of an image at once.
    config.text.bidirectional_vision = config.text.hidden_size_per_layer_input == 0;
    config.placeholder_ids.of[input::MediaKind::kImage] = placeholders.at("<|image|>");
    std::int64_t& video = config.placeholder_ids.of[input::MediaKind::kVideo];
    video = placeholders.find("<|video|>").value_or(video);
  }
  if (has(towers, "clip.has_audio_encoder")) {
    config.audio = read_audio(towers);
    config.placeholder_ids.of[input::MediaKind::kAudio] = placeholders.at("<|audio|>");
  }
}

}  // namespace bezel::gemma4
