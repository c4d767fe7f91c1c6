#include "bezel/io/key_map.h"

#include <fstream>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "bezel/io/foreign_name.h"
#include "tests/support/temp_folder.h"

namespace bezel::io {
namespace {

using test::error_of;
using test::says;

const std::string kVisionProj = "model.vision_tower.encoder.layers.3.self_attn.q_proj";
const std::string kAudioProj = "model.audio_tower.layers.11.feed_forward1.ffw_layer_1";
const std::string kTextProj = "model.language_model.layers.0.self_attn.q_proj";

/// Names of the 2,011 tensors of the released E2B.
std::vector<std::string> released_names() {
  std::ifstream file(std::string(BEZEL_TEST_DATA) + "/e2b_tensors.tsv");
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);)
    if (!line.empty() && line[0] != '#') names.push_back(line.substr(0, line.find('\t')));
  return names;
}

TEST(KeyMap, TheEmbedderOfTheUnifiedModelHasTheNameOfItsModule) {
  for (const auto& [stored, module] :
       {std::pair<std::string, std::string>{"model.vision_embedder.patch_ln1.bias",
                                            "model.embed_vision.patch_ln1.bias"},
        {"model.vision_embedder.patch_dense.weight", "model.embed_vision.patch_dense.weight"},
        {"model.vision_embedder.pos_embedding", "model.embed_vision.pos_embedding"}}) {
    EXPECT_EQ(canonical_tensor_name(stored), module);
    EXPECT_EQ(canonical_tensor_name(module), module);
    EXPECT_EQ(canonical_tensor_name(stored.substr(6)), module);  // of a bare Gemma4UnifiedModel
    EXPECT_EQ(stored_tensor_name(module, KeyLayout::kNested), stored);
    EXPECT_TRUE(is_patch_embedder(module));
    EXPECT_EQ(unified_name(module), module);
  }
  EXPECT_EQ(peft_module_name("model.embed_vision.patch_dense"), "model.embed_vision.patch_dense");
  EXPECT_EQ(canonical_module_name("model.vision_embedder.patch_dense"), "model.embed_vision.patch_dense");
  EXPECT_EQ(foreign_name_advice("model.vision_embedder.patch_dense.weight"), "");
}

TEST(KeyMap, TheProjectorOfTheUnifiedModelDependsOnItsNeighbors) {
  const std::string name = "model.embed_vision.embedding_projection.weight";
  const std::string inside = "model.embed_vision.multimodal_embedder.embedding_projection.weight";
  EXPECT_EQ(canonical_tensor_name(name), name);
  EXPECT_EQ(unified_name(name), inside);
  EXPECT_EQ(unified_name(name + ".absmax"), inside + ".absmax");
  EXPECT_EQ(unified_name(inside), inside);
  EXPECT_EQ(unified_name("model.embed_audio.embedding_projection.weight"),
            "model.embed_audio.embedding_projection.weight");
  EXPECT_EQ(stored_tensor_name(inside, KeyLayout::kNested), name);
  EXPECT_FALSE(is_patch_embedder(name));
}

TEST(KeyMap, FindsEveryClippedLayerOfTheReleasedModel) {
  std::set<std::string> vision;
  std::set<std::string> audio;
  const auto names = released_names();
  ASSERT_EQ(names.size(), 2011u);
  for (const std::string& name : names) {
    const std::string canonical = canonical_tensor_name(name);
    EXPECT_EQ(canonical.find(".linear."), std::string::npos) << name;
    const std::string module = canonical.substr(0, canonical.rfind('.'));
    // The file's own evidence that a layer is clipped: it has bounds.
    if (name.ends_with(".input_max")) {
      EXPECT_TRUE(is_clippable_module(module)) << name;
    }
    if (is_clippable_module(module)) (module.find("vision_tower") != module.npos ? vision : audio).insert(module);
  }
  EXPECT_EQ(vision.size(), 112u);
  EXPECT_EQ(audio.size(), 120u);
}

TEST(KeyMap, TheReleasedNamesSurviveARoundTrip) {
  const auto names = released_names();
  EXPECT_EQ(detect_layout(names), KeyLayout::kNested);
  std::vector<std::string> flat;
  for (const std::string& name : names) {
    const std::string canonical = canonical_tensor_name(name);
    EXPECT_EQ(stored_tensor_name(canonical, KeyLayout::kNested), name);
    flat.push_back(stored_tensor_name(canonical, KeyLayout::kFlat));
    EXPECT_EQ(canonical_tensor_name(flat.back()), canonical);
  }
  EXPECT_EQ(detect_layout(flat), KeyLayout::kFlat);
  EXPECT_EQ(std::set<std::string>(flat.begin(), flat.end()).size(), names.size());
}

TEST(KeyMap, DropsLinearFromWeightsAndTheirQuantizationState) {
  for (const std::string& module : {kVisionProj, kAudioProj})
    for (const char* tensor : {".weight", ".weight.absmax", ".weight.quant_state.bitsandbytes__nf4", ".SCB"}) {
      EXPECT_EQ(canonical_tensor_name(module + ".linear" + tensor), module + tensor);
      EXPECT_EQ(canonical_tensor_name(module + tensor), module + tensor);
      EXPECT_EQ(stored_tensor_name(module + tensor, KeyLayout::kNested), module + ".linear" + tensor);
      EXPECT_EQ(stored_tensor_name(module + tensor, KeyLayout::kFlat), module + tensor);
    }
  EXPECT_EQ(canonical_tensor_name(kVisionProj + ".input_min"), kVisionProj + ".input_min");
  EXPECT_EQ(stored_tensor_name(kVisionProj + ".input_min", KeyLayout::kNested), kVisionProj + ".input_min");
}

TEST(KeyMap, LeavesLinearAloneAnywhereElse) {
  for (const std::string& decoy :
       {std::string("model.language_model.x.linear.weight"), std::string("model.vision_tower.other.linear.weight"),
        kTextProj + ".linear.weight", kVisionProj + "x.linear.weight", kVisionProj + ".inner.linear.weight",
        kVisionProj + ".linear", kVisionProj + ".linear_weight", kVisionProj + ".linear.input_min",
        std::string("model.vision_tower.encoder.layers.x.self_attn.q_proj.linear.weight"),
        std::string("model.vision_tower.encoder.layers.3.self_attn.post.linear.weight"),
        std::string("model.audio_tower.layers.3.self_attn.o_proj.linear.weight"),
        std::string("model.audio_tower.layers.3.self_attn.relative_k_proj.linear.weight"),
        std::string("x.model.audio_tower.layers.3.self_attn.post.linear.weight"), std::string(".linear.weight"),
        std::string("linear.weight"), std::string("")}) {
    EXPECT_EQ(canonical_tensor_name(decoy), decoy);
    EXPECT_EQ(stored_tensor_name(decoy, KeyLayout::kFlat), decoy);
  }
}

TEST(KeyMap, PutsTextOnlyCheckpointsUnderTheLanguageModel) {
  for (const char* tail :
       {"layers.0.self_attn.q_proj.weight", "embed_tokens.weight", "norm.weight", "embed_tokens_per_layer.weight",
        "per_layer_model_projection.weight", "per_layer_projection_norm.weight"}) {
    const std::string stored = std::string("model.") + tail;
    const std::string canonical = std::string("model.language_model.") + tail;
    EXPECT_EQ(canonical_tensor_name(stored), canonical);
    EXPECT_EQ(canonical_tensor_name(canonical), canonical);
    EXPECT_EQ(stored_tensor_name(canonical, KeyLayout::kNested, true), stored);
    EXPECT_EQ(stored_tensor_name(canonical, KeyLayout::kNested, false), canonical);
  }
  for (const char* other : {"model.embed_vision.embedding_projection.weight", "model.normal.weight", "lm_head.weight"})
    EXPECT_EQ(canonical_tensor_name(other), other);
}

// What transformers 5.23 loads without a missing key into Gemma4ForConditionalGeneration or Gemma4ForCausalLM.
TEST(KeyMap, ReadsTheSavesThatTransformersReads) {
  const std::string text = kTextProj + ".weight", vision = kVisionProj + ".linear.weight";
  EXPECT_EQ(canonical_tensor_name(text.substr(6)), text);                       // of Gemma4Model
  EXPECT_EQ(canonical_tensor_name(vision.substr(6)), kVisionProj + ".weight");  // of Gemma4Model
  EXPECT_EQ(canonical_tensor_name("layers.0.self_attn.q_proj.weight"), text);   // of Gemma4TextModel
  EXPECT_EQ(canonical_tensor_name("embed_tokens.weight"), "model.language_model.embed_tokens.weight");
  EXPECT_EQ(canonical_tensor_name("model.language_model.model.layers.0.self_attn.q_proj.weight"), text);
  EXPECT_EQ(canonical_tensor_name("model." + text), text);
  EXPECT_EQ(canonical_tensor_name("model.lm_head.weight"), "lm_head.weight");
  EXPECT_EQ(detect_layout({kVisionProj.substr(6) + ".weight"}), KeyLayout::kFlat);
  EXPECT_EQ(respelt_tensor_name(vision.substr(6), KeyLayout::kFlat), kVisionProj + ".weight");
  EXPECT_EQ(respelt_tensor_name(text.substr(6), KeyLayout::kNested), text);
  for (const std::string& name : {text, vision, std::string("layers.0.mlp.up_proj.weight")})
    EXPECT_EQ(foreign_name_advice(name), "") << name;
}

// What it does not read: every key would be missing, with no more than a report.
TEST(KeyMap, NamesThePrefixOfOtherSaves) {
  const std::string text = kTextProj + ".weight";
  for (const char* prefix :
       {"_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module.", "transformer.", "x."})
    EXPECT_TRUE(says(foreign_name_advice(prefix + text), std::string("'") + prefix) ||
                says(foreign_name_advice(prefix + text),
                     "'" + std::string(prefix).substr(0, std::string(prefix).size() - 1) + "'"))
        << prefix;
  EXPECT_TRUE(says(foreign_name_advice("model.language_model.layers.0._orig_mod.mlp.up_proj.weight"), "torch.compile"));
  EXPECT_TRUE(says(foreign_name_advice(kTextProj + ".base_layer.weight"), "merge_and_unload"));
  EXPECT_TRUE(says(foreign_name_advice(kTextProj + ".lora_A.default.weight"), "merge_and_unload"));
  EXPECT_TRUE(says(foreign_name_advice("base_model.model." + text), "merge_and_unload"));
  EXPECT_TRUE(says(foreign_name_advice("language_model.model.layers.0.mlp.up_proj.weight"), "'language_model.'"));
  EXPECT_TRUE(says(foreign_name_advice(kTextProj + ".qweight"), "GPTQ"));
  for (const char* other : {"model.extra.weight", "something", "lm_head.weight", ""})
    EXPECT_EQ(foreign_name_advice(other), "") << other;
}

TEST(KeyMap, FindsTheModulesThatPeftSavesWhole) {
  EXPECT_EQ(saved_module_of("base_model.model.lm_head.weight"), "lm_head");
  EXPECT_EQ(saved_module_of("base_model.model.lm_head.modules_to_save.default.weight"), "lm_head");
  const std::string embeddings = "model.language_model.embed_tokens";
  EXPECT_EQ(saved_module_of("base_model.model." + embeddings + ".base_layer.weight"), embeddings);
  EXPECT_EQ(saved_module_of("base_model.model.model.embed_tokens.weight"), embeddings);
  for (const char* other : {"base_model.model.a.lora_A.weight", "lm_head.weight", "base_model.model.lm_head.bias",
                            "base_model.model.a.token_adapter.base_layer.weight"})
    EXPECT_EQ(saved_module_of(other), std::nullopt) << other;
}

TEST(KeyMap, RefusesBothSpellingsOfOneTensor) {
  const std::string message = error_of([] {
    detect_layout({kVisionProj + ".linear.weight", kAudioProj + ".linear.weight", kVisionProj + ".weight"});
  });
  EXPECT_TRUE(says(message, "'" + kVisionProj + ".linear.weight'"));
  EXPECT_TRUE(says(message, "'" + kVisionProj + ".weight'"));
  EXPECT_NE(error_of([] { detect_layout({kTextProj + ".weight", "model.layers.0.self_attn.q_proj.weight"}); }), "");
}

TEST(KeyMap, SpellsModulesAsPeftDoes) {
  EXPECT_EQ(peft_module_name(kVisionProj), kVisionProj + ".linear");
  EXPECT_EQ(peft_module_name(kTextProj), kTextProj);
  EXPECT_EQ(peft_module_name("model.embed_vision.embedding_projection"), "model.embed_vision.embedding_projection");
  for (const std::string& module : {kVisionProj, kAudioProj, kTextProj}) {
    EXPECT_EQ(canonical_module_name(peft_module_name(module)), module);
    EXPECT_EQ(canonical_module_name(module), module);
  }
  const std::string projection = "model.language_model.per_layer_model_projection";
  EXPECT_EQ(peft_module_name(projection, true), "model.per_layer_model_projection");
  EXPECT_EQ(canonical_module_name("model.per_layer_model_projection"), projection);
  EXPECT_EQ(canonical_module_name("model.language_model.x.linear"), "model.language_model.x.linear");
}

TEST(KeyMap, TakesAdapterKeysApart) {
  const auto expect = [](const std::string& key, const std::string& module, const std::string& part) {
    const auto parsed = parse_adapter_key(key);
    ASSERT_TRUE(parsed) << key;
    EXPECT_EQ(parsed->module, module) << key;
    EXPECT_EQ(parsed->part, part) << key;
  };
  expect("base_model.model." + kTextProj + ".lora_A.weight", kTextProj, "lora_A");
  expect("base_model.model." + kTextProj + ".lora_B.default.weight", kTextProj, "lora_B");
  expect("base_model.model." + kVisionProj + ".linear.lora_A.weight", kVisionProj, "lora_A");
  expect("base_model.model." + kVisionProj + ".lora_A.weight", kVisionProj, "lora_A");
  expect("base_model.model." + kAudioProj + ".linear.lora_magnitude_vector", kAudioProj, "lora_magnitude_vector");
  expect("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", kTextProj, "lora_A");
  expect("base_model.model.model.per_layer_model_projection.lora_B.weight",
         "model.language_model.per_layer_model_projection", "lora_B");
  for (const std::string& other :
       {kTextProj + ".lora_A.weight", "base_model.model." + kTextProj + ".lora_A",
        "base_model.model." + kTextProj + ".weight", std::string("base_model.model.lora_A.weight"),
        std::string("base_model.model..lora_A.weight"), std::string("base_model.model."), std::string("")})
    EXPECT_FALSE(parse_adapter_key(other)) << other;
}

TEST(KeyMap, WritesAdapterKeysInTheReleasedSpelling) {
  // The four examples of PEFT 0.21.2 with transformers 5.23.0.
  EXPECT_EQ(adapter_key(kTextProj, "lora_A"),
            "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(adapter_key(kVisionProj, "lora_A"),
            "base_model.model.model.vision_tower.encoder.layers.3.self_attn.q_proj.linear.lora_A.weight");
  EXPECT_EQ(adapter_key(kAudioProj, "lora_B"),
            "base_model.model.model.audio_tower.layers.11.feed_forward1.ffw_layer_1.linear.lora_B.weight");
  EXPECT_EQ(adapter_key("model.embed_vision.embedding_projection", "lora_A"),
            "base_model.model.model.embed_vision.embedding_projection.lora_A.weight");
  EXPECT_EQ(adapter_key(kTextProj, "lora_magnitude_vector"),
            "base_model.model." + kTextProj + ".lora_magnitude_vector");
  EXPECT_EQ(adapter_key(kTextProj, "lora_A", true), "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
}

TEST(KeyMap, NamesOfGgufFiles) {
  EXPECT_EQ(canonical_gguf_name("blk.31.attn_output.weight"), "model.language_model.layers.31.self_attn.o_proj.weight");
  EXPECT_EQ(canonical_gguf_name("blk.0.layer_output_scale.weight"), "model.language_model.layers.0.layer_scalar");
  EXPECT_EQ(canonical_gguf_name("token_embd.weight"), "model.language_model.embed_tokens.weight");
  for (const char* name : {"blk.attn_q.weight", "blk.1x.attn_q.weight", "blk.1.attn_q.bias", "blk.1.",
                           "v.blk.0.attn_q.weight", "attn_q.weight", "rope_freqs.weight", ""})
    EXPECT_EQ(canonical_gguf_name(name), std::nullopt) << name;
  EXPECT_EQ(gguf_tensor_name(kVisionProj + ".weight"), std::nullopt);
}

TEST(KeyMap, EveryLanguageTensorOfTheReleasedModelHasAGgufName) {
  std::set<std::string> names;
  for (const std::string& name : released_names()) {
    if (!name.starts_with("model.language_model.")) continue;
    const auto stored = gguf_tensor_name(name);
    ASSERT_TRUE(stored) << name;
    EXPECT_TRUE(names.insert(*stored).second) << *stored;
    EXPECT_EQ(canonical_gguf_name(*stored), name);
  }
  EXPECT_EQ(names.size(), 600u);
}

}  // namespace
}  // namespace bezel::io
