#include "bezel/gemma4/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bezel/error.h"
#include "bezel/gemma4/mmproj_config.h"

namespace bezel::gemma4 {
namespace {

using io::GgufValue;

constexpr float kNoRotation = 1e29f;  // conversion writes 1e30 for angles that do not turn

/// Keys `<architecture>.…` of a file.
class Keys {
 public:
  Keys(const io::GgufModel& model, std::string architecture) : model_(model), prefix_(std::move(architecture) + ".") {}

  const GgufValue* find(std::string_view name) const { return model_.metadata().get(prefix_ + std::string(name)); }
  const GgufValue& at(std::string_view name) const { return model_.metadata().at(prefix_ + std::string(name)); }
  std::int64_t count(std::string_view name) const { return at(name).whole(1, kMaxDim); }
  std::int64_t count_or(std::string_view name, std::int64_t fallback, std::int64_t min = 1) const {
    const GgufValue* value = find(name);
    return value == nullptr ? fallback : value->whole(min, kMaxDim);
  }
  double positive_or(std::string_view name, double fallback) const {
    const GgufValue* value = find(name);
    if (value == nullptr) return fallback;
    const double number = value->number();
    if (!(number > 0)) value->fail("a number above 0");
    return number;
  }
  /// One number for each layer, written as a list or as one for all.
  std::vector<std::int64_t> for_layers(std::string_view name, std::int64_t num_layers) const {
    const GgufValue& value = at(name);
    if (!value.is_array()) return std::vector<std::int64_t>(static_cast<std::size_t>(num_layers), count(name));
    check_length(value, num_layers);
    return value.wholes(1, kMaxDim);
  }
  static void check_length(const GgufValue& value, std::int64_t num_layers) {
    if (static_cast<std::int64_t>(value.size()) != num_layers)
      value.fail("one element for each of the " + std::to_string(num_layers) + " layers");
  }

 private:
  const io::GgufModel& model_;
  std::string prefix_;
};

const io::GgufTensor& tensor_at(const io::GgufModel& model, std::string_view name) {
  const auto* entry = model.find(name);
  if (entry == nullptr) throw Error(model.path(), ": tensor '", name, "' is missing");
  return *entry->info;
}

std::string layer_tensor(std::int64_t idx, const char* name) { return "blk." + std::to_string(idx) + "." + name; }

/// Which layers slide: a flag for each, or the period of the full ones, which no file of Gemma 3 says.
std::vector<LayerType> layer_types(const Keys& keys, std::int64_t num_layers) {
  constexpr std::int64_t kPeriod = 6;
  const GgufValue* value = keys.find("attention.sliding_window_pattern");
  std::vector<LayerType> types;
  if (value != nullptr && value->is_array()) {
    Keys::check_length(*value, num_layers);
    for (const bool slides : value->booleans()) types.push_back(slides ? LayerType::kSliding : LayerType::kFull);
    return types;
  }
  const std::int64_t period = value == nullptr ? kPeriod : value->whole(1, kMaxDim);
  for (std::int64_t i = 0; i < num_layers; ++i)
    types.push_back((i + 1) % period == 0 ? LayerType::kFull : LayerType::kSliding);
  return types;
}

/// The share of a full layer's angles that turn, which only the factors in `rope_freqs.weight` say: ones, then numbers
/// so large that nothing turns.
double partial_rotary_factor(const io::GgufModel& model, std::int64_t head_dim) {
  constexpr const char* kName = "rope_freqs.weight";
  const io::GgufTensor& tensor = tensor_at(model, kName);
  if (tensor.type != io::GgufType::kF32 || tensor.shape != std::vector<std::int64_t>{head_dim / 2})
    throw Error(model.path(), ": tensor '", kName, "': expected ", head_dim / 2,
                " factors in F32, one for each angle of a head of full attention");
  std::vector<float> factors(static_cast<std::size_t>(head_dim / 2));
  std::memcpy(factors.data(), model.find(kName)->file->data(tensor), tensor.size_bytes);
  const auto still = std::ranges::find_if(factors, [](float factor) { return factor != 1.0f; });
  if (!std::all_of(still, factors.end(), [](float factor) { return factor > kNoRotation; }))
    throw Error(model.path(), ": tensor '", kName,
                "': expected ones and then numbers above 1e29, as proportional "
                "rotation has them");
  return static_cast<double>(still - factors.begin()) / static_cast<double>(factors.size());
}

void read_layers(const io::GgufModel& model, const Keys& keys, TextConfig& text) {
  const std::vector<LayerType> types = layer_types(keys, text.num_layers);
  const auto kv_heads = keys.for_layers("attention.head_count_kv", text.num_layers);
  const auto widths = keys.for_layers("feed_forward_length", text.num_layers);
  const std::int64_t full_head_dim = keys.count("attention.key_length");
  const std::int64_t sliding_head_dim = keys.count_or("attention.key_length_swa", full_head_dim);
  for (std::int64_t i = 0; i < text.num_layers; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const bool full = types[at] == LayerType::kFull;
    const std::int64_t head_dim = full ? full_head_dim : sliding_head_dim;
    if (head_dim % 2 != 0) keys.at("attention.key_length").fail("even head sizes, which rotary embeddings need");
    if (text.num_heads % kv_heads[at] != 0)
      keys.at("attention.head_count_kv").fail("divisors of attention.head_count, " + std::to_string(text.num_heads));
    // Where keys serve as values, the file has no matrix for them. Layers that share those of others may have either.
    const bool own_keys = model.find(layer_tensor(i, "attn_k.weight")) != nullptr;
    const bool key_is_value = own_keys && model.find(layer_tensor(i, "attn_v.weight")) == nullptr;
    text.layers.push_back({.type = types[at],
                           .head_dim = head_dim,
                           .num_kv_heads = kv_heads[at],
                           .intermediate_size = widths[at],
                           .key_is_value = key_is_value});
  }
  text.intermediate_size = widths.front();
}

void read_experts(const Keys& keys, TextConfig& text) {
  text.num_experts = keys.count_or("expert_count", 0, 0);
  if (text.num_experts == 0) return;
  text.top_k_experts = keys.count("expert_used_count");
  text.moe_intermediate_size = keys.count("expert_feed_forward_length");
  if (text.top_k_experts > text.num_experts)
    keys.at("expert_used_count").fail("at most expert_count, " + std::to_string(text.num_experts));
}

/// What Gemma 3 does otherwise. Conversion has added 1 to the norms' weights.
void read_gemma3(const Keys& keys, TextConfig& text) {
  // Only the 27B divides by another root than that of the size of a head.
  constexpr std::int64_t kLayersOf27B = 62;
  const std::int64_t divisor =
      text.num_layers == kLayersOf27B ? text.hidden_size / text.num_heads : keys.count("attention.key_length");
  text.attention_scale = 1.0 / std::sqrt(static_cast<double>(divisor));
  text.value_norm = false;
  text.layer_scalar = false;
  text.full_rope.partial_rotary_factor = 1.0;
  if (const GgufValue* type = keys.find("rope.scaling.type"); type != nullptr && type->text() != "none") {
    if (type->text() != "linear") type->fail("'linear' or 'none'");
    text.full_rope.linear_factor = keys.positive_or("rope.scaling.factor", 1.0);
  }
}

TextConfig read_text(const io::GgufModel& model, const Keys& keys) {
  TextConfig text;
  text.hidden_size = keys.count("embedding_length");
  text.num_layers = keys.at("block_count").whole(1, 4096);
  text.num_heads = keys.count("attention.head_count");
  text.sliding_window = keys.count("attention.sliding_window");
  text.max_position_embeddings = keys.count("context_length");
  text.rms_norm_eps = keys.positive_or("attention.layer_norm_rms_epsilon", 1e-6);
  text.final_logit_softcapping = keys.positive_or("final_logit_softcapping", 0.0);
  text.vocab_size = tensor_at(model, "token_embd.weight").shape.front();
  text.tie_word_embeddings = model.find("output.weight") == nullptr;
  if (const GgufValue* pad = model.metadata().get("tokenizer.ggml.padding_token_id"))
    text.pad_token_id = pad->whole(0, kMaxDim);
  text.hidden_size_per_layer_input = keys.count_or("embedding_length_per_layer_input", 0, 0);
  if (text.hidden_size_per_layer_input > 0)
    text.vocab_size_per_layer = tensor_at(model, "per_layer_token_embd.weight").shape.front();
  read_layers(model, keys, text);
  read_experts(keys, text);
  text.num_kv_shared_layers = keys.count_or("attention.shared_kv_layers", 0, 0);
  if (text.num_kv_shared_layers >= text.num_layers)
    keys.at("attention.shared_kv_layers").fail("fewer than block_count, " + std::to_string(text.num_layers));
  share_keys_and_values(text, model.path());
  return text;
}

// Files that come beside a model's: llama.cpp's towers, adapters, drafters and statistics.
void refuse_other_kinds(const io::GgufModel& model) {
  const auto text_of = [&](const char* key) -> std::string {
    const GgufValue* value = model.metadata().get(key);
    return value == nullptr ? "" : value->text();
  };
  const std::string type = text_of("general.type"), architecture = text_of("general.architecture");
  constexpr const char* kNameModel = "; name the GGUF file of the language model";
  if (type == "adapter")
    throw Error(model.path(), ": a LoRA adapter for llama.cpp, not a model", kNameModel,
                ", and give Bezel the adapter as PEFT's folder, which it was made from");
  if (type == "mmproj" || architecture == "clip")
    throw Error(model.path(), ": the towers for images and audio of a model (mmproj), without its language model",
                kNameModel, ", or take the checkpoint in safetensors, which has both");
  if (type == "imatrix" || architecture == "imatrix")
    throw Error(model.path(), ": statistics for quantizing (imatrix), not a model", kNameModel);
  if (architecture.find("assistant") != std::string::npos || architecture.find("draft") != std::string::npos ||
      architecture.find("mtp") != std::string::npos)
    throw Error(model.path(), ": a drafter for speculative decoding ('", architecture,
                "'), not the model that it drafts ", "for", kNameModel);
}

}  // namespace

ModelConfig read_gguf_config(const io::GgufModel& model) {
  refuse_other_kinds(model);
  const GgufValue& architecture = model.metadata().at("general.architecture");
  if (architecture.text() != "gemma4" && architecture.text() != "gemma3") architecture.fail("'gemma4' or 'gemma3'");
  const Keys keys(model, architecture.text());
  ModelConfig config;
  config.text_only = true;
  config.text = read_text(model, keys);
  config.text.sliding_rope = {.theta = keys.positive_or("rope.freq_base_swa", 10000.0)};
  config.text.full_rope = {.theta = keys.positive_or("rope.freq_base", 1000000.0)};
  if (architecture.text() == "gemma3") {
    config.family = Family::kGemma3;
    read_gemma3(keys, config.text);
  } else {
    config.text.full_rope.partial_rotary_factor = partial_rotary_factor(model, keys.count("attention.key_length"));
  }
  if (model.towers() != nullptr) read_mmproj_config(model, config);
  return config;
}

}  // namespace bezel::gemma4
