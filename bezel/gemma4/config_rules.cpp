#include <algorithm>
#include <iterator>

#include "bezel/error.h"
#include "bezel/gemma4/config.h"

/// What follows from a config that has been read.
namespace bezel::gemma4 {

std::string ModelConfig::missing_row(std::int64_t id) const {
  for (const input::MediaKind kind : input::kMediaKinds)
    if (media()[kind] && id == placeholder_ids[kind]) return "";
  const auto past = [&](const char* table, const char* key, std::int64_t rows) {
    return std::string("the ") + table + " end at row " + std::to_string(rows - 1) + " (" + key + ": " +
           std::to_string(rows) + "); a token was added to the tokenizer without resizing the model: use the " +
           "tokenizer that the model was trained with, or resize_token_embeddings of transformers";
  };
  if (id >= text.vocab_size) return past("embeddings", "vocab_size", text.vocab_size);
  if (text.hidden_size_per_layer_input > 0 && id >= text.vocab_size_per_layer)
    return past("per-layer embeddings", "vocab_size_per_layer_input", text.vocab_size_per_layer);
  return "";
}

std::string ModelConfig::architecture() const {
  if (family == Family::kGemma3) return "Gemma3ForCausalLM";
  return std::string(is_unified() ? "Gemma4Unified" : "Gemma4") +
         (text_only ? "ForCausalLM" : "ForConditionalGeneration");
}

std::string_view image_attention_name(ImageAttention attention) {
  return attention == ImageAttention::kAllLayers ? "all_layers" : "sliding_layers";
}

void choose_image_attention(ModelConfig& config, std::string_view name) {
  if (name.empty()) return;
  for (const ImageAttention attention : {ImageAttention::kAllLayers, ImageAttention::kSlidingLayers}) {
    if (name != image_attention_name(attention)) continue;
    if (!config.has_image_attention() && attention != config.text.image_attention)
      throw Error(ErrorKind::kConfig, "image_attention: ", name, " is for gemma4_unified (12B) with images; a ",
                  config.architecture(), " has ", image_attention_name(config.text.image_attention), " alone");
    config.text.image_attention = attention;
    return;
  }
  throw Error(ErrorKind::kConfig, "image_attention: got '", name, "', expected all_layers or sliding_layers");
}

void share_keys_and_values(TextConfig& config, const std::string& source) {
  if (config.num_kv_shared_layers == 0) return;
  const std::int64_t first = config.first_kv_shared_layer();
  for (std::int64_t i = first; i < config.num_layers; ++i) config.layers[i].kv_mode = KvMode::kReuse;
  for (const LayerType type : {LayerType::kSliding, LayerType::kFull}) {
    const auto uses = [&](const TextLayerConfig& layer) { return layer.type == type; };
    const auto begin = config.layers.begin();
    const auto end = begin + first;
    const auto store = std::find_if(std::make_reverse_iterator(end), std::make_reverse_iterator(begin), uses);
    if (store != std::make_reverse_iterator(begin))
      store->kv_mode = KvMode::kStore;
    else if (std::any_of(end, config.layers.end(), uses))
      throw Error(source, ": the last ", config.num_kv_shared_layers, " layers share keys and values, but no ",
                  type == LayerType::kFull ? "full" : "sliding", "-attention layer before them computes any");
  }
}

}  // namespace bezel::gemma4
