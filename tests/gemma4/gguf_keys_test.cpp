#include "bezel/gemma4/gguf_keys.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

// tests/parity/gguf_out.py compares with what PyPI gguf writes.
namespace bezel::gemma4 {
namespace {

using io::GgufSink;
using io::NewGgufTensor;
using test::error_of;
using test::says;

NewGgufTensor zeros(const std::string& name, std::vector<std::int64_t> shape) {
  NewGgufTensor tensor{name, io::GgufType::kF32, std::move(shape), nullptr};
  tensor.write = [bytes = std::string(tensor.size_bytes(), '\0')](GgufSink& sink) {
    sink.put(bytes.data(), bytes.size());
  };
  return tensor;
}

ModelConfig parsed(const std::string& text) {
  const io::Json json = io::parse_json(text, "config.json");
  return read_model_config(io::JsonView(json, "config.json"));
}

/// What a file of that config says.
ModelConfig written_and_read(const ModelConfig& config) {
  const test::TempFolder folder;
  io::NewGgufKeys keys;
  keys.set("general.architecture", gguf_architecture(config.family));
  keys.set("tokenizer.ggml.padding_token_id", static_cast<std::uint32_t>(config.text.pad_token_id));
  set_gguf_config(config, "config.json", keys);
  std::vector<NewGgufTensor> tensors{zeros("token_embd.weight", {config.text.vocab_size, 8})};
  if (config.text.hidden_size_per_layer_input > 0)
    tensors.push_back(zeros("per_layer_token_embd.weight", {config.text.vocab_size_per_layer, 8}));
  for (std::size_t i = 0; i < config.text.layers.size(); ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    tensors.push_back(zeros(layer + "attn_k.weight", {8}));
    if (!config.text.layers[i].key_is_value) tensors.push_back(zeros(layer + "attn_v.weight", {8}));
  }
  const std::vector<float> factors = gguf_rope_factors(config.text);
  if (config.family == Family::kGemma4)
    tensors.push_back(
        {"rope_freqs.weight", io::GgufType::kF32, {static_cast<std::int64_t>(factors.size())}, [&](GgufSink& sink) {
           sink.put(factors.data(), factors.size() * sizeof(float));
         }});
  io::write_gguf(folder / "m.gguf", keys, tensors);
  return read_model_config(folder / "m.gguf");
}

void expect_same(const TextConfig& got, const TextConfig& want) {
  EXPECT_EQ(got.vocab_size, want.vocab_size);
  EXPECT_EQ(got.hidden_size, want.hidden_size);
  EXPECT_EQ(got.num_layers, want.num_layers);
  EXPECT_EQ(got.num_heads, want.num_heads);
  EXPECT_EQ(got.sliding_window, want.sliding_window);
  EXPECT_EQ(got.pad_token_id, want.pad_token_id);
  EXPECT_EQ(got.max_position_embeddings, want.max_position_embeddings);
  EXPECT_EQ(got.hidden_size_per_layer_input, want.hidden_size_per_layer_input);
  EXPECT_EQ(got.num_kv_shared_layers, want.num_kv_shared_layers);
  EXPECT_EQ(got.num_experts, want.num_experts);
  EXPECT_EQ(got.top_k_experts, want.top_k_experts);
  EXPECT_EQ(got.moe_intermediate_size, want.moe_intermediate_size);
  EXPECT_FLOAT_EQ(static_cast<float>(got.rms_norm_eps), static_cast<float>(want.rms_norm_eps));
  EXPECT_EQ(got.final_logit_softcapping, want.final_logit_softcapping);
  EXPECT_DOUBLE_EQ(got.attention_scale, want.attention_scale);
  EXPECT_EQ(got.value_norm, want.value_norm);
  EXPECT_EQ(got.layer_scalar, want.layer_scalar);
  for (const LayerType type : {LayerType::kSliding, LayerType::kFull}) {
    EXPECT_EQ(got.rope(type).theta, want.rope(type).theta);
    EXPECT_EQ(got.rope(type).partial_rotary_factor, want.rope(type).partial_rotary_factor);
    EXPECT_EQ(got.rope(type).linear_factor, want.rope(type).linear_factor);
  }
  ASSERT_EQ(got.layers.size(), want.layers.size());
  for (std::size_t i = 0; i < want.layers.size(); ++i) {
    EXPECT_EQ(got.layers[i].type, want.layers[i].type) << i;
    EXPECT_EQ(got.layers[i].kv_mode, want.layers[i].kv_mode) << i;
    EXPECT_EQ(got.layers[i].head_dim, want.layers[i].head_dim) << i;
    EXPECT_EQ(got.layers[i].num_kv_heads, want.layers[i].num_kv_heads) << i;
    EXPECT_EQ(got.layers[i].intermediate_size, want.layers[i].intermediate_size) << i;
    EXPECT_EQ(got.layers[i].key_is_value, want.layers[i].key_is_value) << i;
  }
}

// Four layers, the last two of which share keys and values and are twice as wide.
constexpr const char* kSmall = R"({"model_type": "gemma4", "text_config": {"hidden_size": 32, "intermediate_size": 24,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"], "vocab_size": 40,
    "num_kv_shared_layers": 2, "use_double_wide_mlp": true, "hidden_size_per_layer_input": 4, "sliding_window": 64,
    "vocab_size_per_layer_input": 40, "pad_token_id": 3, "final_logit_softcapping": 30.0,
    "max_position_embeddings": 4096, "rope_parameters": {
      "full_attention": {"rope_type": "proportional", "rope_theta": 2000000.0, "partial_rotary_factor": 0.25},
      "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0}}}})";
// Experts, and keys that serve as values in full layers with fewer heads.
constexpr const char* kExperts = R"({"model_type": "gemma4", "text_config": {"hidden_size": 32, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "global_head_dim": 16,
    "num_global_key_value_heads": 1, "attention_k_eq_v": true, "vocab_size": 40, "enable_moe_block": true,
    "layer_types": ["sliding_attention", "full_attention"], "num_experts": 8, "top_k_experts": 2,
    "moe_intermediate_size": 12, "hidden_size_per_layer_input": 0}})";
constexpr const char* kGemma3 = R"({"model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 24,
    "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 40,
    "sliding_window": 16, "query_pre_attn_scalar": 8, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "layer_types": ["sliding_attention", "sliding_attention",
    "sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]})";

TEST(GgufKeys, AFileSaysWhatTheConfigSays) {
  for (const char* text : {kSmall, kExperts, kGemma3}) {
    const ModelConfig config = parsed(text);
    const ModelConfig read = written_and_read(config);
    EXPECT_EQ(read.family, config.family);
    EXPECT_EQ(read.architecture(), config.family == Family::kGemma3 ? "Gemma3ForCausalLM" : "Gemma4ForCausalLM");
    expect_same(read.text, config.text);
  }
}

TEST(GgufKeys, RefusesWhatNoKeyCanSay) {
  io::NewGgufKeys keys;
  ModelConfig biased = parsed(kSmall);
  biased.text.attention_bias = true;
  EXPECT_TRUE(says(error_of([&] { set_gguf_config(biased, "config.json", keys); }), "attention_bias"));
  ModelConfig other = parsed(kGemma3);
  other.text.layers[2].type = LayerType::kFull;
  EXPECT_TRUE(says(error_of([&] { set_gguf_config(other, "config.json", keys); }), "config.json: layer 2 is full"));
}

}  // namespace
}  // namespace bezel::gemma4
