#include "bezel/gemma4/config.h"

#include <gtest/gtest.h>

#include "bezel/error.h"

namespace bezel::gemma4 {
namespace {

// A text_config with `extra` members, as released.
std::string config(const std::string& text_extra, const std::string& extra = "") {
  return R"({"model_type": "gemma4", "text_config": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"])" +
         text_extra + "}" + extra + "}";
}

ModelConfig read(const std::string& text) {
  const io::Json json = io::parse_json(text, "config.json");
  return read_model_config(io::JsonView(json, "config.json"));
}

std::string error_of(const std::string& text) {
  try {
    read(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfig, ReleasedAndResavedFormsMeanTheSame) {
  const ModelConfig released =
      read(config(R"(, "global_head_dim": 16, "num_global_key_value_heads": 1, "attention_k_eq_v": true)"));
  const ModelConfig resaved = read(config(R"(, "attention_k_eq_v": true, "per_layer_config": {
      "1": {"head_dim": 16, "num_key_value_heads": 1}, "3": {"head_dim": 16, "num_key_value_heads": 1}})"));
  // As among more than ten layers.
  const ModelConfig padded = read(config(R"(, "attention_k_eq_v": true, "per_layer_config": {
      "01": {"head_dim": 16, "num_key_value_heads": 1}, "03": {"head_dim": 16, "num_key_value_heads": 1}})"));
  for (const ModelConfig& c : {released, resaved, padded}) {
    EXPECT_EQ(c.text.layers[0].head_dim, 8);
    EXPECT_EQ(c.text.layers[0].num_kv_heads, 2);
    EXPECT_EQ(c.text.layers[1].head_dim, 16);
    EXPECT_EQ(c.text.layers[1].num_kv_heads, 1);
    EXPECT_TRUE(c.text.layers[3].key_is_value);
    EXPECT_FALSE(c.text.layers[2].key_is_value);
  }
}

// transformers: rope_type defaults to "default", of which partial_rotary_factor is no part.
TEST(ModelConfig, RopeWithoutATypeTurnsTheWholeHead) {
  const ModelConfig c = read(config(R"(, "rope_parameters": {
      "full_attention": {"rope_theta": 5e5, "partial_rotary_factor": 0.25},
      "sliding_attention": {"rope_theta": 2e4}})"));
  EXPECT_EQ(c.text.full_rope.partial_rotary_factor, 1.0);
  EXPECT_EQ(c.text.full_rope.theta, 5e5);
  EXPECT_EQ(c.text.sliding_rope.theta, 2e4);
  EXPECT_EQ(read(config("")).text.full_rope.partial_rotary_factor, 0.25);
  EXPECT_NE(error_of(config(R"(, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4})")).find("sections"),
            std::string::npos);
}

TEST(ModelConfig, NamesTheTableThatATokenIsBeyond) {
  const ModelConfig c = read(config(R"(, "vocab_size": 100, "vocab_size_per_layer_input": 90,
      "hidden_size_per_layer_input": 4)",
                                    R"(, "image_token_id": 200, "vision_config": {})"));
  EXPECT_EQ(c.missing_row(89), "");
  EXPECT_NE(c.missing_row(95).find("vocab_size_per_layer_input: 90"), std::string::npos);
  EXPECT_NE(c.missing_row(100).find("vocab_size: 100"), std::string::npos);
  EXPECT_EQ(c.missing_row(200), "");  // never looked up
}

TEST(ModelConfig, GlobalKvHeadsCountOnlyWithSharedKeysAndValues) {
  const ModelConfig c = read(config(R"(, "global_head_dim": 16, "num_global_key_value_heads": 1)"));
  EXPECT_EQ(c.text.layers[1].num_kv_heads, 2);
}

TEST(ModelConfig, KvSharingFollowsTheLastStoringLayers) {
  const ModelConfig c = read(config(R"(, "num_kv_shared_layers": 2, "use_double_wide_mlp": true)"));
  EXPECT_EQ(c.text.layers[0].kv_mode, KvMode::kStore);
  EXPECT_EQ(c.text.layers[1].kv_mode, KvMode::kStore);
  EXPECT_EQ(c.text.layers[2].kv_mode, KvMode::kReuse);
  EXPECT_EQ(c.text.layers[1].intermediate_size, 24);
  EXPECT_EQ(c.text.layers[3].intermediate_size, 48);
}

TEST(ModelConfig, VisionRopeTypeIsDefaultOrAxial) {
  for (const char* type : {"default", "axial"}) {
    const std::string vision =
        std::string(R"(, "vision_config": {"rope_parameters": {"rope_type": ")") + type + R"(", "rope_theta": 50}})";
    EXPECT_EQ(read(config("", vision)).vision->rope_theta, 50.0);
  }
  EXPECT_NE(error_of(config("", R"(, "vision_config": {"rope_parameters": {"rope_type": "yarn"}})")), "");
}

// A Gemma 3 text model's config.json with `extra` members.
std::string gemma3(const std::string& extra = "") {
  return std::string(R"({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8,
    "sliding_window": 512)") +
         (extra.find("query_pre") == std::string::npos ? R"(, "query_pre_attn_scalar": 64)" : "") + extra + "}";
}

TEST(ModelConfig, Gemma3DiffersInDataOnly) {
  const ModelConfig c = read(gemma3());
  EXPECT_EQ(c.family, Family::kGemma3);
  EXPECT_EQ(c.architecture(), "Gemma3ForCausalLM");
  EXPECT_TRUE(c.text_only);
  EXPECT_EQ(c.text.attention_scale, 0.125);
  EXPECT_EQ(c.text.norm_offset, 1.0);
  EXPECT_FALSE(c.text.value_norm);
  EXPECT_FALSE(c.text.layer_scalar);
  EXPECT_EQ(c.text.hidden_size_per_layer_input, 0);
  EXPECT_EQ(c.text.final_logit_softcapping, 0.0);
  // Every sixth layer is full, and the last one only where its turn comes.
  EXPECT_EQ(c.text.layers[5].type, LayerType::kFull);
  EXPECT_EQ(c.text.layers[7].type, LayerType::kSliding);
  EXPECT_EQ(c.text.layers[5].head_dim, 8);
  EXPECT_EQ(c.text.full_rope.theta, 1e6);
  EXPECT_EQ(c.text.sliding_rope.theta, 1e4);
  EXPECT_EQ(c.text.full_rope.partial_rotary_factor, 1.0);
}

TEST(ModelConfig, Gemma3RopesInBothSpellings) {
  const ModelConfig released = read(gemma3(R"(, "rope_theta": 5e5, "rope_local_base_freq": 2e4,
      "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 4)"));
  const ModelConfig resaved = read(gemma3(R"(, "rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
      "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}})"));
  for (const ModelConfig& c : {released, resaved}) {
    EXPECT_EQ(c.text.full_rope.theta, 5e5);
    EXPECT_EQ(c.text.full_rope.linear_factor, 8.0);
    EXPECT_EQ(c.text.sliding_rope.theta, 2e4);
    EXPECT_EQ(c.text.sliding_rope.linear_factor, 1.0);
  }
  EXPECT_EQ(released.text.layers[3].type, LayerType::kFull);
}

TEST(ModelConfig, RefusesGemma3ModelsOfOtherKinds) {
  EXPECT_NE(error_of(R"({"model_type": "gemma3"})").find("images"), std::string::npos);
  EXPECT_NE(error_of(gemma3(R"(, "use_bidirectional_attention": true)")).find("use_bidirectional_attention"),
            std::string::npos);
  EXPECT_NE(error_of(gemma3(R"(, "attn_logit_softcapping": 50.0)")).find("attn_logit_softcapping"), std::string::npos);
  EXPECT_NE(error_of(gemma3(R"(, "query_pre_attn_scalar": 0)")), "");
}

// The form of the released 12B, with `text` and `extra` members more.
std::string unified(const std::string& text = "", const std::string& extra = "") {
  return R"({"model_type": "gemma4_unified", "hidden_size": null, "text_config": {"model_type": "gemma4_unified_text",
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_global_key_value_heads": 1, "head_dim": 8, "global_head_dim": 16,
    "attention_k_eq_v": true, "vocab_size_per_layer_input": 0, "hidden_size_per_layer_input": 0, "num_experts": null,
    "layer_types": ["sliding_attention", "full_attention"])" +
         text + R"(}, "vision_config": {"mm_embed_dim": 12, "mm_posemb_size": 90, "output_proj_dims": 12,
    "model_patch_size": 48, "num_soft_tokens": 280}, "audio_config": {"audio_embed_dim": 640, "hidden_size": 640,
    "output_proj_dims": 640, "audio_samples_per_token": 640, "rms_norm_eps": 1e-5})" +
         extra + "}";
}

TEST(ModelConfig, ReadsTheUnifiedModel) {
  const ModelConfig c = read(unified());
  EXPECT_TRUE(c.is_unified() && c.has_image_attention());
  EXPECT_EQ(c.architecture(), "Gemma4UnifiedForConditionalGeneration");
  EXPECT_EQ(c.text.sliding_window, 1024);
  EXPECT_TRUE(c.text.bidirectional_vision);
  EXPECT_EQ(c.text.image_attention, ImageAttention::kAllLayers);
  EXPECT_EQ(c.text.hidden_size_per_layer_input, 0);
  EXPECT_EQ(c.text.layers[1].head_dim, 16);
  EXPECT_TRUE(c.text.layers[1].key_is_value);
  EXPECT_EQ(c.vision->patch_size, 48);
  EXPECT_EQ(c.vision->pooling_kernel_size, 1);
  EXPECT_EQ(c.vision->hidden_size, 12);
  EXPECT_EQ(c.vision->position_embedding_size, 90);
  EXPECT_EQ(c.vision->num_layers, 0);
  EXPECT_EQ(c.audio->hidden_size, 640);
  EXPECT_EQ(c.audio->num_layers, 0);
  EXPECT_EQ(c.audio->rms_norm_eps, 1e-5);
}

TEST(ModelConfig, ReadsTheUnifiedTextModel) {
  const ModelConfig c = read(R"({"model_type": "gemma4_unified_text", "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "use_bidirectional_attention": null})");
  EXPECT_TRUE(c.text_only && c.is_unified());
  EXPECT_FALSE(c.text.bidirectional_vision || c.has_image_attention() || c.vision || c.audio);
  EXPECT_EQ(c.text.hidden_size_per_layer_input, 0);
  EXPECT_EQ(c.architecture(), "Gemma4UnifiedForCausalLM");
}

TEST(ModelConfig, RefusesWhatNoUnifiedModelHas) {
  EXPECT_NE(error_of(unified(R"(, "enable_moe_block": true)")).find("enable_moe_block"), std::string::npos);
  EXPECT_NE(error_of(unified(R"(, "use_bidirectional_attention": "all")")).find("vision"), std::string::npos);
  const auto replaced = [](const std::string& from, const std::string& to) {
    std::string text = unified();
    return error_of(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_NE(
      replaced(R"("hidden_size_per_layer_input": 0)", R"("hidden_size_per_layer_input": 4)").find("vocab_size_per"),
      std::string::npos);
  EXPECT_NE(replaced(R"("model_patch_size": 48)", R"("model_patch_size": 32)").find("model_patch_size"),
            std::string::npos);
  EXPECT_NE(replaced(R"("output_proj_dims": 12)", R"("output_proj_dims": 14)").find("mm_embed_dim (12)"),
            std::string::npos);
  EXPECT_NE(replaced(R"("audio_samples_per_token": 640)", R"("audio_samples_per_token": 320)").find("640"),
            std::string::npos);
}

TEST(ModelConfig, ImageAttentionIsAChoiceOfTheUnifiedModelAlone) {
  ModelConfig c = read(unified());
  choose_image_attention(c, "");
  EXPECT_EQ(image_attention_name(c.text.image_attention), "all_layers");
  choose_image_attention(c, "sliding_layers");
  EXPECT_EQ(c.text.image_attention, ImageAttention::kSlidingLayers);
  EXPECT_THROW(choose_image_attention(c, "no_layers"), Error);
  ModelConfig other = read(config(R"(, "use_bidirectional_attention": "vision")"));
  EXPECT_NO_THROW(choose_image_attention(other, "sliding_layers"));
  EXPECT_THROW(choose_image_attention(other, "all_layers"), Error);
}

TEST(ModelConfig, RefusesByNameWhatItCannotBe) {
  EXPECT_NE(error_of(R"({"model_type": "llama"})").find("'llama'"), std::string::npos);
  EXPECT_NE(error_of("{}").find("model_type"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "vocab_size": -1)")).find("text_config.vocab_size"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "vocab_size": 2.0)")).find("2.0"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "vocab_size": 18446744073709551616)")).find("vocab_size"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "num_kv_shared_layers": 4)")).find("num_kv_shared_layers"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "enable_moe_block": true)")).find("num_experts"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "hidden_activation": "relu")")).find("relu"), std::string::npos);
  EXPECT_NE(error_of(config(R"(, "global_head_dim": 15)")).find("head_dim 15"), std::string::npos);
}

TEST(ModelConfig, NamesOtherModelsOfTheFamily) {
  const std::pair<const char*, const char*> models[] = {{"gemma4_assistant", "drafter"},
                                                        {"gemma4_unified_assistant", "drafter"},
                                                        {"diffusion_gemma", "DiffusionGemma"},
                                                        {"diffusion_gemma_text", "DiffusionGemma"},
                                                        {"embedding_gemma2", "EmbeddingGemma 2"},
                                                        {"embedding_gemma2_text", "EmbeddingGemma 2"},
                                                        {"gemma3", "Gemma 3 with images"},
                                                        {"gemma3n", "Gemma 3n"},
                                                        {"gemma3n_text", "Gemma 3n"},
                                                        {"t5gemma2", "another model"},
                                                        {"gemma2", "an earlier"}};
  for (const auto& [type, word] : models) {
    const std::string said = error_of(std::string(R"({"model_type": ")") + type + "\"}");
    EXPECT_NE(said.find(std::string("model_type '") + type + "' is not supported: it is"), std::string::npos) << said;
    EXPECT_NE(said.find(word), std::string::npos) << said;
  }
  EXPECT_NE(error_of(R"({"model_type": "gemma5"})").find("expected 'gemma4'"), std::string::npos);
}

}  // namespace
}  // namespace bezel::gemma4
