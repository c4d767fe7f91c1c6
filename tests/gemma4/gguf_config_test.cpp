#include "bezel/gemma4/gguf_config.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::gemma4 {
namespace {

using test::error_of;
using test::GgufBytes;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr std::uint32_t kU32 = 4, kF32 = 6, kBool = 7;

std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += raw(value);
  return bytes;
}

/// What a test changes: a key with its type and value, a list of u32, or rope factors.
struct Change {
  std::string key;
  std::function<void(GgufBytes&, const std::string&)> write;
};

/// Metadata of a model of four layers: sliding, full, sliding, full, of which the last two share.
GgufBytes metadata(const Change& change = {}, const std::vector<float>& factors = {1, 1, 1e30f, 1e30f},
                   bool with_values = true) {
  GgufBytes bytes;
  const auto put = [&](const std::string& name, const std::function<void(GgufBytes&, const std::string&)>& write) {
    (change.key == name ? change.write : write)(bytes, name);
  };
  const auto count = [&](const std::string& name, std::uint32_t value) {
    put(name, [value](GgufBytes& to, const std::string& key) { to.key(key, value); });
  };
  put("general.architecture", [](GgufBytes& to, const std::string& key) { to.key(key, "gemma4"); });
  count("gemma4.block_count", 4);
  count("gemma4.context_length", 4096);
  count("gemma4.embedding_length", 32);
  count("gemma4.attention.head_count", 4);
  count("gemma4.attention.head_count_kv", 2);
  count("gemma4.attention.key_length", 8);
  count("gemma4.attention.key_length_swa", 4);
  count("gemma4.attention.sliding_window", 16);
  count("gemma4.attention.shared_kv_layers", 2);
  put("gemma4.attention.sliding_window_pattern",
      [](GgufBytes& to, const std::string& key) { to.list(key, kBool, 4, std::string("\1\0\1\0", 4)); });
  put("gemma4.feed_forward_length", [](GgufBytes& to, const std::string& key) {
    to.list(key, kU32, 4,
            raw<std::uint32_t>(64) + raw<std::uint32_t>(64) + raw<std::uint32_t>(128) + raw<std::uint32_t>(128));
  });
  bytes.key("gemma4.rope.freq_base", kF32, raw(2e6f)).key("gemma4.rope.freq_base_swa", kF32, raw(2e4f));
  bytes.key("gemma4.final_logit_softcapping", kF32, raw(30.0f)).key("tokenizer.ggml.padding_token_id", 3);
  bytes.tensor("token_embd.weight", {32, 10}, 0, std::string(1280, '\0'));
  bytes.tensor("rope_freqs.weight", {factors.size()}, 0, floats(factors));
  for (const char* layer : {"0", "1"}) {
    bytes.tensor(std::string("blk.") + layer + ".attn_k.weight", {8}, 0, std::string(32, '\0'));
    if (with_values) bytes.tensor(std::string("blk.") + layer + ".attn_v.weight", {8}, 0, std::string(32, '\0'));
  }
  return bytes;
}

ModelConfig read(const GgufBytes& bytes) {
  const TempFolder folder;
  write_bytes(folder / "m.gguf", bytes.bytes());
  return read_model_config(folder / "m.gguf");
}

/// What is said when `key` has the value that `write` writes; it names the key.
std::string complaint(const std::string& key, const std::function<void(GgufBytes&, const std::string&)>& write) {
  const std::string message = error_of([&] { read(metadata({key, write})); });
  EXPECT_TRUE(says(message, "'" + key + "'"));
  return message;
}

TEST(GgufConfig, NamesFilesThatComeBesideAModel) {
  const auto refusal = [](const std::string& type, const std::string& architecture) {
    GgufBytes bytes;
    if (!type.empty()) bytes.key("general.type", type);
    bytes.key("general.architecture", architecture).tensor("a", {8}, 0, std::string(32, '\0'));
    return error_of([&] { read(bytes); });
  };
  EXPECT_TRUE(says(refusal("adapter", "gemma4"), "a LoRA adapter for llama.cpp"));
  EXPECT_TRUE(says(refusal("mmproj", "clip"), "mmproj"));
  EXPECT_TRUE(says(refusal("", "clip"), "mmproj"));
  EXPECT_TRUE(says(refusal("imatrix", "gemma4"), "imatrix"));
  EXPECT_TRUE(says(refusal("model", "gemma4-assistant"), "a drafter for speculative decoding"));
  EXPECT_TRUE(says(refusal("model", "llama"), "'gemma4' or 'gemma3'"));
}

TEST(GgufConfig, ReadsWhatLlamaCppWrites) {
  const ModelConfig config = read(metadata());
  const TextConfig& text = config.text;
  EXPECT_TRUE(config.text_only);
  EXPECT_FALSE(config.vision || config.audio);
  EXPECT_EQ(text.vocab_size, 10);
  EXPECT_EQ(text.pad_token_id, 3);
  EXPECT_EQ(text.sliding_window, 16);
  EXPECT_EQ(text.final_logit_softcapping, 30.0);
  EXPECT_EQ(text.hidden_size_per_layer_input, 0);
  EXPECT_TRUE(text.tie_word_embeddings);
  EXPECT_EQ(text.full_rope.theta, 2e6);
  EXPECT_EQ(text.full_rope.partial_rotary_factor, 0.5);
  EXPECT_EQ(text.sliding_rope.theta, 2e4);
  ASSERT_EQ(text.layers.size(), 4u);
  const std::vector<KvMode> modes{KvMode::kStore, KvMode::kStore, KvMode::kReuse, KvMode::kReuse};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(text.layers[i].type, i % 2 == 0 ? LayerType::kSliding : LayerType::kFull);
    EXPECT_EQ(text.layers[i].head_dim, i % 2 == 0 ? 4 : 8);
    EXPECT_EQ(text.layers[i].num_kv_heads, 2);
    EXPECT_EQ(text.layers[i].intermediate_size, i < 2 ? 64 : 128);
    EXPECT_EQ(text.layers[i].kv_mode, modes[i]);
    EXPECT_FALSE(text.layers[i].key_is_value);
  }
}

TEST(GgufConfig, AFileWithoutValueMatricesUsesKeysAsValues) {
  const ModelConfig config = read(metadata({}, {1, 1e30f, 1e30f, 1e30f}, /*with_values=*/false));
  EXPECT_TRUE(config.text.layers[0].key_is_value && config.text.layers[1].key_is_value);
  EXPECT_EQ(config.text.full_rope.partial_rotary_factor, 0.25);
}

TEST(GgufConfig, ReadsGemma3) {
  GgufBytes bytes;
  bytes.key("general.architecture", "gemma3").key("gemma3.block_count", 7).key("gemma3.context_length", 4096);
  bytes.key("gemma3.embedding_length", 32).key("gemma3.feed_forward_length", 64).key("gemma3.attention.head_count", 4);
  bytes.key("gemma3.attention.head_count_kv", 1).key("gemma3.attention.key_length", 16);
  bytes.key("gemma3.attention.sliding_window", 8).key("gemma3.rope.freq_base", kF32, raw(1e6f));
  bytes.key("gemma3.rope.scaling.type", "linear").key("gemma3.rope.scaling.factor", kF32, raw(8.0f));
  bytes.tensor("token_embd.weight", {32, 10}, 0, std::string(1280, '\0'));
  const ModelConfig config = read(bytes);
  EXPECT_EQ(config.family, Family::kGemma3);
  EXPECT_EQ(config.architecture(), "Gemma3ForCausalLM");
  EXPECT_EQ(config.text.attention_scale, 0.25);
  EXPECT_EQ(config.text.norm_offset, 0.0);
  EXPECT_FALSE(config.text.value_norm || config.text.layer_scalar);
  EXPECT_EQ(config.text.sliding_rope.theta, 1e4);
  EXPECT_EQ(config.text.sliding_rope.linear_factor, 1.0);
  EXPECT_EQ(config.text.full_rope.partial_rotary_factor, 1.0);
  EXPECT_EQ(config.text.full_rope.linear_factor, 8.0);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(config.text.layers[i].type, i == 5 ? LayerType::kFull : LayerType::kSliding);
    EXPECT_EQ(config.text.layers[i].head_dim, 16);
    EXPECT_FALSE(config.text.layers[i].key_is_value);
  }
}

TEST(GgufConfig, RefusesByNameWhatItCannotBe) {
  const auto number = [](std::uint32_t value) {
    return [value](GgufBytes& to, const std::string& key) { to.key(key, value); };
  };
  const auto none = [](GgufBytes&, const std::string&) {};
  complaint("general.architecture", [](GgufBytes& to, const std::string& key) { to.key(key, "llama"); });
  complaint("gemma4.block_count", none);
  complaint("gemma4.block_count", number(0));
  complaint("gemma4.block_count", number(1u << 31));
  complaint("gemma4.embedding_length", [](GgufBytes& to, const std::string& key) { to.key(key, "32"); });
  complaint("gemma4.attention.head_count_kv", number(3));
  complaint("gemma4.attention.key_length", number(7));
  complaint("gemma4.attention.shared_kv_layers", number(4));
  complaint("gemma4.attention.sliding_window_pattern", number(0));
  complaint("gemma4.attention.sliding_window_pattern",
            [](GgufBytes& to, const std::string& key) { to.list(key, kBool, 3, std::string("\1\0\1", 3)); });
  complaint("gemma4.feed_forward_length",
            [](GgufBytes& to, const std::string& key) { to.list(key, kU32, 1, raw<std::uint32_t>(64)); });
}

TEST(GgufConfig, RefusesRopeFactorsThatAreNotProportional) {
  for (const std::vector<float>& factors :
       {std::vector<float>{1, 1}, {1, 1e30f, 1, 1e30f}, {1, 1, 2, 1e30f}, {1, 1, NAN, 1e30f}})
    EXPECT_TRUE(says(error_of([&] { read(metadata({}, factors)); }), "rope_freqs.weight"));
}

}  // namespace
}  // namespace bezel::gemma4
