#include "bezel/gemma4/config_fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "bezel/io/key_map.h"

namespace bezel::gemma4 {
namespace {

using io::DType;
using Entry = io::Checkpoint::Entry;

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kEmbeddings = "model.language_model.embed_tokens.weight";

float half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const float fraction = static_cast<float>(bits & 0x3ff) / 1024.0f;
  float value = 0;
  if (exponent == 0)
    value = std::ldexp(fraction, -14);
  else if (exponent == 31)
    value = fraction == 0 ? HUGE_VALF : NAN;
  else
    value = std::ldexp(1.0f + fraction, exponent - 15);
  return (bits & 0x8000) != 0 ? -value : value;
}

bool is_floating(DType type) { return type == DType::kF32 || type == DType::kBF16 || type == DType::kF16; }

float value_at(const std::byte* data, DType type, std::size_t i) {
  if (type == DType::kF32) {
    float value = 0;
    std::memcpy(&value, data + 4 * i, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, data + 2 * i, sizeof bits);
  return type == DType::kF16 ? half_value(bits) : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Quantized matrices are never equal here: one that is used although it need not be changes nothing.
bool have_equal_values(const Entry& a, const Entry& b) {
  if (a.info->shape != b.info->shape || !is_floating(a.info->dtype) || !is_floating(b.info->dtype)) return false;
  const std::byte* const a_data = a.file->data(*a.info);
  const std::byte* const b_data = b.file->data(*b.info);
  const std::size_t bytes = a.info->end_bytes - a.info->begin_bytes;
  bool equal = true;
  if (a.info->dtype == b.info->dtype) {
    equal = bytes == 0 || std::memcmp(a_data, b_data, bytes) == 0;
  } else {
    const std::size_t count = bytes / io::dtype_bytes(a.info->dtype);
    for (std::size_t i = 0; i < count && equal; ++i)
      equal = value_at(a_data, a.info->dtype, i) == value_at(b_data, b.info->dtype, i);
  }
  a.file->evict(*a.info);
  b.file->evict(*b.info);
  return equal;
}

/// Number of tensors of a tower, and of its projector, which is useless alone.
struct TowerTensors {
  std::size_t tower = 0, embedder = 0;
};

struct Found {
  std::map<std::string, Entry, std::less<>> head_and_embeddings;
  TowerTensors vision{}, audio{};
  std::size_t language = 0;  ///< 0: the names are of another kind and give no information
};

Found look_through(const io::Checkpoint& checkpoint) {
  Found found;
  for (const auto& [stored, entry] : checkpoint.entries()) {
    const std::string name = io::canonical_tensor_name(stored);
    if (name == kHead || name == kEmbeddings) found.head_and_embeddings.emplace(name, entry);
    found.language += name.starts_with("model.language_model.");
    const bool is_patch_embedder = io::is_patch_embedder(name);
    found.vision.tower += name.starts_with("model.vision_tower.") || is_patch_embedder;
    found.audio.tower += name.starts_with("model.audio_tower.");
    found.vision.embedder += name.starts_with("model.embed_vision.") && !is_patch_embedder;
    found.audio.embedder += name.starts_with("model.embed_audio.");
  }
  return found;
}

void untie_other_head(ModelConfig& config, const Found& found, const std::string& folder) {
  const auto& entries = found.head_and_embeddings;
  const auto head = entries.find(kHead), embeddings = entries.find(kEmbeddings);
  if (!config.text.tie_word_embeddings || head == entries.end() || embeddings == entries.end()) return;
  if (have_equal_values(head->second, embeddings->second)) return;
  config.text.tie_word_embeddings = false;
  config.warnings.push_back(
      folder +
      ": lm_head.weight differs from the embeddings, to which tie_word_embeddings of config.json "
      "ties it: it is used as it is stored, as transformers does; set tie_word_embeddings to false");
}

template <typename Tower>
void fit_tower(std::optional<Tower>& tower, const TowerTensors& tensors, const std::string& name,
               const std::string& folder, std::vector<std::string>& warnings) {
  const std::string samples = name == "vision_config" ? "images" : "audio clips";
  if (tower && tensors.tower == 0) {
    tower.reset();
    warnings.push_back(folder + ": config.json describes a tower for " + samples +
                       ", of which the weights hold no tensor: it is left out, and samples with " + samples +
                       " are refused; set " + name + " to null");
  } else if (!tower && tensors.tower + tensors.embedder > 0) {
    warnings.push_back(folder + ": " + std::to_string(tensors.tower + tensors.embedder) + " tensors of a tower for " +
                       samples + " are not used: the model that config.json describes has none (" + name + ")");
  }
}

}  // namespace

void fit_to_weights(ModelConfig& config, const io::Checkpoint& checkpoint) {
  Found found = look_through(checkpoint);
  const std::string& folder = checkpoint.folder();
  config.warnings.insert(config.warnings.end(), checkpoint.warnings().begin(), checkpoint.warnings().end());
  if (found.language == 0) return;
  untie_other_head(config, found, folder);
  // Samples reach the decoder through a projection alone.
  if (config.is_unified()) found.audio.tower = std::exchange(found.audio.embedder, 0);
  fit_tower(config.vision, found.vision, "vision_config", folder, config.warnings);
  fit_tower(config.audio, found.audio, "audio_config", folder, config.warnings);
}

}  // namespace bezel::gemma4
