#include "bezel/gemma4/gguf_keys.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

constexpr float kNoTurn = 1e30f;  // a divisor of an angle that leaves nothing of it

/// Sets keys `<architecture>.…`.
class KeyWriter {
 public:
  KeyWriter(std::string architecture, io::NewGgufKeys& keys) : prefix_(std::move(architecture) + "."), keys_(keys) {}

  void count(const char* name, std::int64_t value) const {
    keys_.set(prefix_ + name, static_cast<std::uint32_t>(value));
  }
  void real(const char* name, double value) const { keys_.set(prefix_ + name, static_cast<float>(value)); }
  void flags(const char* name, const std::vector<bool>& values) const { keys_.set(prefix_ + name, values); }
  void text(const char* name, const std::string& value) const { keys_.set(prefix_ + name, value); }

  /// One number where all layers agree, else one for each.
  void for_layers(const char* name, const TextConfig& text, std::int64_t TextLayerConfig::*field) const {
    std::vector<std::int32_t> values;
    for (const TextLayerConfig& layer : text.layers) values.push_back(static_cast<std::int32_t>(layer.*field));
    if (std::ranges::count(values, values.front()) == std::ssize(values))
      count(name, values.front());
    else
      keys_.set(prefix_ + name, values);
  }

 private:
  std::string prefix_;
  io::NewGgufKeys& keys_;
};

/// The size of a head in layers of `type`; of the other type where there are none.
std::int64_t head_dim(const TextConfig& text, LayerType type) {
  const auto found = std::ranges::find(text.layers, type, &TextLayerConfig::type);
  return (found == text.layers.end() ? text.layers.front() : *found).head_dim;
}

void set_text(const TextConfig& text, const KeyWriter& keys) {
  keys.count("block_count", text.num_layers);
  keys.count("context_length", text.max_position_embeddings);
  keys.count("embedding_length", text.hidden_size);
  keys.for_layers("feed_forward_length", text, &TextLayerConfig::intermediate_size);
  keys.count("attention.head_count", text.num_heads);
  keys.for_layers("attention.head_count_kv", text, &TextLayerConfig::num_kv_heads);
  keys.real("rope.freq_base", text.full_rope.theta);
  keys.real("rope.freq_base_swa", text.sliding_rope.theta);
  keys.real("attention.layer_norm_rms_epsilon", text.rms_norm_eps);
  keys.count("attention.key_length", head_dim(text, LayerType::kFull));
  keys.count("attention.value_length", head_dim(text, LayerType::kFull));
  keys.count("attention.sliding_window", text.sliding_window);
  if (text.final_logit_softcapping > 0) keys.real("final_logit_softcapping", text.final_logit_softcapping);
}

void set_gemma4(const TextConfig& text, const KeyWriter& keys) {
  std::vector<bool> slides;
  for (const TextLayerConfig& layer : text.layers) slides.push_back(layer.type == LayerType::kSliding);
  keys.flags("attention.sliding_window_pattern", slides);
  keys.count("attention.shared_kv_layers", text.num_kv_shared_layers);
  keys.count("embedding_length_per_layer_input", text.hidden_size_per_layer_input);
  keys.count("attention.key_length_swa", head_dim(text, LayerType::kSliding));
  keys.count("attention.value_length_swa", head_dim(text, LayerType::kSliding));
  keys.count("rope.dimension_count", head_dim(text, LayerType::kFull));
  keys.count("rope.dimension_count_swa", head_dim(text, LayerType::kSliding));
  if (text.num_experts == 0) return;
  keys.count("expert_count", text.num_experts);
  keys.count("expert_used_count", text.top_k_experts);
  keys.count("expert_feed_forward_length", text.moe_intermediate_size);
}

void set_gemma3(const TextConfig& text, const std::string& source, const KeyWriter& keys) {
  constexpr std::size_t kPeriod = 6;
  for (std::size_t i = 0; i < text.layers.size(); ++i)
    if ((text.layers[i].type == LayerType::kFull) != ((i + 1) % kPeriod == 0))
      throw Error(source, ": layer ", i, " is ", text.layers[i].type == LayerType::kFull ? "full" : "sliding",
                  "; a GGUF file of Gemma 3 has every sixth layer full and no others");
  if (text.full_rope.linear_factor == 1.0) return;
  keys.text("rope.scaling.type", "linear");
  keys.real("rope.scaling.factor", text.full_rope.linear_factor);
}

}  // namespace

std::string gguf_architecture(Family family) { return family == Family::kGemma3 ? "gemma3" : "gemma4"; }

void set_gguf_config(const ModelConfig& config, const std::string& source, io::NewGgufKeys& keys) {
  if (config.text.attention_bias)
    throw Error(source, ": key 'text_config.attention_bias': a GGUF file of Gemma has no place for biases");
  const KeyWriter into(gguf_architecture(config.family), keys);
  set_text(config.text, into);
  if (config.family == Family::kGemma3)
    set_gemma3(config.text, source, into);
  else
    set_gemma4(config.text, into);
}

std::vector<float> gguf_rope_factors(const TextConfig& text) {
  const std::int64_t size = head_dim(text, LayerType::kFull);
  const auto turning =
      static_cast<std::ptrdiff_t>(static_cast<double>(size) * text.full_rope.partial_rotary_factor / 2);
  std::vector<float> factors(static_cast<std::size_t>(size / 2), kNoTurn);
  std::fill_n(factors.begin(), turning, 1.0f);
  return factors;
}

}  // namespace bezel::gemma4
