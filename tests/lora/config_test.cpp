#include "bezel/lora/config.h"

#include <cmath>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/match.h"
#include "tests/support/temp_folder.h"

namespace bezel::lora {
namespace {

AdapterConfig parse(const std::string& more) {
  const std::string text = R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none")" + more + "}";
  return parse_adapter_config(io::parse_json(text, "adapter_config.json"), "adapter_config.json");
}

std::string refusal(const std::string& more) {
  try {
    parse(more);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(LoraConfig, ScaleIsAlphaOverRankOrItsRoot) {
  EXPECT_DOUBLE_EQ(LoraConfig{}.scale(16, 32), 2.0);
  EXPECT_DOUBLE_EQ((LoraConfig{.use_rslora = true}.scale(16, 32)), 8.0);
}

TEST(LoraConfig, RefusesNumbersOutOfRange) {
  EXPECT_THROW(LoraConfig{.rank = 0}.check(), Error);
  EXPECT_THROW(LoraConfig{.alpha = -1}.check(), Error);
  EXPECT_THROW(LoraConfig{.dropout = 1}.check(), Error);
  EXPECT_THROW(LoraConfig{.towers = {}}.check(), Error);
  EXPECT_NO_THROW(LoraConfig{}.check());
}

TEST(AdapterConfig, ReadsWhatPeftWrites) {
  const AdapterConfig config = parse(R"(, "lora_dropout": 0.1, "use_rslora": true, "base_model_name_or_path": "base",
      "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 4}, "alpha_pattern": {"v_proj": 2.5},
      "modules_to_save": null, "use_dora": false, "loftq_config": {}, "qalora_group_size": 16, "megatron_core": "m")");
  EXPECT_EQ(config.lora.rank, 8);
  EXPECT_EQ(config.lora.alpha, 16);
  EXPECT_EQ(config.lora.dropout, 0.1);
  EXPECT_TRUE(config.lora.use_rslora);
  EXPECT_EQ(config.lora.target_modules.names, (std::vector<std::string>{"q_proj", "v_proj"}));
  ASSERT_EQ(config.lora.rank_pattern.size(), 1u);
  EXPECT_EQ(config.lora.rank_pattern[0].second, 4);
  EXPECT_EQ(config.lora.alpha_pattern[0].second, 2.5);
  EXPECT_EQ(config.base_model, "base");
}

TEST(AdapterConfig, SaysByWhichRuleImagesWereRead) {
  const io::Json json = adapter_config_json({}, {}, "base", "Gemma4UnifiedForConditionalGeneration", "sliding_layers");
  EXPECT_EQ(json["auto_mapping"]["parent_library"], "transformers.models.gemma4_unified.modeling_gemma4_unified");
  EXPECT_EQ(parse_adapter_config(json, "adapter_config.json").image_attention, "sliding_layers");
  const io::Json silent = adapter_config_json({}, {}, "base", "Gemma4ForConditionalGeneration");
  EXPECT_FALSE(silent["auto_mapping"].contains("image_attention"));
  EXPECT_EQ(parse_adapter_config(silent, "adapter_config.json").image_attention, "");
  EXPECT_EQ(parse(R"(, "auto_mapping": null)").image_attention, "");
}

TEST(AdapterConfig, RefusesByNameWhatItCannotMean) {
  for (const char* key : {"modules_to_save", "trainable_token_indices", "layer_replication", "alora_invocation_tokens"})
    EXPECT_NE(refusal(std::string(", \"") + key + "\": [1]").find(key), std::string::npos) << key;
  for (const char* key : {"lora_bias", "fan_in_fan_out", "use_qalora", "some_later_switch"})
    EXPECT_NE(refusal(std::string(", \"") + key + "\": true").find(key), std::string::npos) << key;
  EXPECT_NE(refusal(R"(, "init_lora_weights": "pissa")").find("init_lora_weights"), std::string::npos);
  EXPECT_NE(refusal(R"(, "rank_pattern": {"q_proj": -1})").find("rank_pattern.q_proj"), std::string::npos);
  EXPECT_EQ(refusal(R"(, "init_lora_weights": "gaussian", "some_later_number": 3)"), "");
}

TEST(AdapterConfig, ListsWhatItCannotMeanWhereThatIsAsked) {
  const io::Json json = {{"peft_type", "LORA"}, {"r", 8},
                         {"lora_alpha", 8},     {"bias", "all"},
                         {"lora_bias", true},   {"modules_to_save", {"lm_head"}}};
  const AdapterConfig config = parse_adapter_config(json, "a", {.list_only = true});
  ASSERT_EQ(config.unsupported.size(), 3u);
  EXPECT_TRUE(test::says(config.unsupported[0], "bias"));
  EXPECT_TRUE(test::says(config.unsupported[1], "biases"));
  EXPECT_TRUE(test::says(config.unsupported[2], "modules_to_save"));
  EXPECT_EQ(config.lora.rank, 8);
  EXPECT_EQ(parse_adapter_config({{"peft_type", "IA3"}}, "a", {.list_only = true}).unsupported.size(), 1u);
}

TEST(AdapterConfig, ReadsDoraAndWhatIsTrainedOfTables) {
  const io::Json json = {{"peft_type", "LORA"},
                         {"r", 8},
                         {"lora_alpha", 8},
                         {"use_dora", true},
                         {"init_lora_weights", "gaussian"},
                         {"modules_to_save", {"lm_head"}},
                         {"trainable_token_indices", {{"embed_tokens", {4, 2}}}}};
  const LoraConfig config = parse_adapter_config(json, "a", {.saved_modules = true}).lora;
  EXPECT_TRUE(config.use_dora);
  EXPECT_EQ(config.init_lora_weights, "gaussian");
  EXPECT_EQ(config.modules_to_save, (std::vector<std::string>{"lm_head"}));
  ASSERT_EQ(config.trainable_token_indices.size(), 1u);
  EXPECT_EQ(config.trainable_token_indices[0].second, (std::vector<std::int64_t>{4, 2}));
  const io::Json again = adapter_config_json(config, {}, "base", "Gemma4ForConditionalGeneration");
  for (const char* key : {"use_dora", "init_lora_weights", "modules_to_save", "trainable_token_indices"})
    EXPECT_EQ(again[key], json[key]) << key;
}

TEST(AdapterConfig, ReadsTheLayersThatAreTransformed) {
  const AdapterConfig list = parse(R"(, "target_modules": ["q_proj"], "layers_to_transform": [1, 3],
      "layers_pattern": "layers")");
  EXPECT_EQ(list.lora.layers_to_transform, (std::vector<std::int64_t>{1, 3}));
  EXPECT_EQ(list.lora.layers_pattern, (std::vector<std::string>{"layers"}));
  const AdapterConfig one =
      parse(R"(, "target_modules": ["q_proj"], "layers_to_transform": 2, "layers_pattern": null)");
  EXPECT_EQ(one.lora.layers_to_transform, (std::vector<std::int64_t>{2}));
  EXPECT_NE(refusal(R"(, "target_modules": ".*q_proj", "layers_to_transform": [1])").find("regex"), std::string::npos);
  EXPECT_NE(refusal(R"(, "layers_to_transform": [-1])").find("layers_to_transform[0]"), std::string::npos);
}

TEST(AdapterConfig, ReadsTheStacksOfExpertsThatAreAdapted) {
  const AdapterConfig config = parse(R"(, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"])");
  EXPECT_EQ(config.lora.target_parameters, (std::vector<std::string>{"experts.gate_up_proj", "experts.down_proj"}));
  EXPECT_TRUE(parse(R"(, "target_parameters": null)").lora.target_parameters.empty());
  EXPECT_NE(refusal(R"(, "target_parameters": "experts.down_proj")").find("target_parameters"), std::string::npos);
  EXPECT_NE(refusal(R"(, "target_parameters": [1])").find("target_parameters[0]"), std::string::npos);
}

TEST(AdapterConfig, WritesStacksOfExpertsApart) {
  const std::vector<AdaptedLayer> layers{{.name = "a.q_proj", .rank = 16, .alpha = 32},
                                         {.name = "a.experts.down_proj", .rank = 4, .alpha = 32, .is_parameter = true}};
  const io::Json json = adapter_config_json({}, layers, "base", "Gemma4ForConditionalGeneration");
  EXPECT_EQ(json["target_modules"], io::Json({"a.q_proj"}));
  EXPECT_EQ(json["target_parameters"], io::Json({"a.experts.down_proj"}));
  EXPECT_EQ(json["rank_pattern"], io::Json({{"a.experts.down_proj", 4}}));
}

// Reference: the nesting of peft 0.21.2's ParamWrapper, whose order is that in which the module registers its matrices.
TEST(ExpertKeys, SayByTheWrapperWhichMatrixTheyAreOf) {
  const std::string module = "model.language_model.layers.0.experts";
  const LoraConfig both{.target_parameters = {"experts.down_proj", "experts.gate_up_proj"}};
  EXPECT_EQ(expert_matrix_of(module, both), module + ".down_proj");
  EXPECT_EQ(expert_matrix_of(module + ".base_layer", both), module + ".gate_up_proj");
  const LoraConfig first{.target_parameters = {"model.layers.0.experts.gate_up_proj"}};  // of the text-only class
  EXPECT_EQ(expert_matrix_of(module, first), module + ".gate_up_proj");
  EXPECT_EQ(expert_matrix_of(module + ".base_layer", first), std::nullopt);
  EXPECT_EQ(expert_matrix_of(module, {}), std::nullopt);
  EXPECT_EQ(expert_matrix_of("model.language_model.layers.0.mlp", both), std::nullopt);
  for (const bool is_both : {false, true}) {
    EXPECT_EQ(expert_key_module(module + ".gate_up_proj", is_both), module + (is_both ? ".base_layer" : ""));
    EXPECT_EQ(expert_key_module(module + ".down_proj", is_both), module);
  }
  EXPECT_TRUE(is_expert_matrix(module + ".down_proj"));
  EXPECT_FALSE(is_expert_matrix("model.language_model.layers.0.mlp.down_proj"));
  EXPECT_EQ(stored_matrix_name("model.layers.0.experts.base_layer", module + ".gate_up_proj"),
            "model.layers.0.experts.gate_up_proj");
}

TEST(AdapterConfig, NamesAnAdapterOfMlx) {
  EXPECT_TRUE(test::says(test::error_of([] {
                           parse_adapter_config({{"fine_tune_type", "lora"}, {"num_layers", 4}}, "a");
                         }),
                         "MLX"));
}

TEST(AdapterConfig, RefusesOtherTypesBiasesAndBadCounts) {
  const auto fails = [](const char* text) {
    EXPECT_THROW(parse_adapter_config(io::parse_json(text, "a"), "a"), Error) << text;
  };
  fails(R"({"peft_type": "LOHA", "r": 8, "lora_alpha": 8})");
  fails(R"({"r": 8, "lora_alpha": 8})");
  fails(R"({"peft_type": "LORA", "lora_alpha": 8})");
  fails(R"({"peft_type": "LORA", "r": 0, "lora_alpha": 8})");
  fails(R"({"peft_type": "LORA", "r": 2.0, "lora_alpha": 8})");
  fails(R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "all"})");
  fails(R"([])");
}

TEST(AdapterConfig, PatternsAreBoundedAndNamedWithTheirFile) {
  io::Json json = {{"peft_type", "LORA"}, {"r", 8}, {"lora_alpha", 8}, {"target_modules", "(a*)*("}};
  const auto refusal = [&] { return test::error_of([&] { parse_adapter_config(json, "a.json"); }); };
  EXPECT_TRUE(test::says(refusal(), "a.json: key 'target_modules': regex '(a*)*('"));
  json["target_modules"] = std::vector<std::string>(5000, "q_proj");
  EXPECT_TRUE(test::says(refusal(), "at most 4096 entries"));
  json["target_modules"] = "q_proj";
  json["rank_pattern"] = {{"a{1,99999}", 2}};
  EXPECT_TRUE(test::says(refusal(), "a.json: key 'rank_pattern': regex"));
}

TEST(AdapterConfig, WritesFullNamesAndWhatDiffersByLayer) {
  LoraConfig config{.rank = 4, .alpha = 8};
  const io::Json json = adapter_config_json(config, {{"a.q_proj.linear", 4, 8}, {"b.v_proj", 2, 3.5}}, "base", "Arch");
  EXPECT_EQ(json["target_modules"], io::Json::parse(R"(["a.q_proj.linear", "b.v_proj"])"));
  EXPECT_EQ(json["rank_pattern"], io::Json::parse(R"({"b.v_proj": 2})"));
  EXPECT_EQ(json["alpha_pattern"], io::Json::parse(R"({"b.v_proj": 3.5})"));
  EXPECT_EQ(json["lora_alpha"].dump(), "8");
  const AdapterConfig back = parse_adapter_config(json, "written");
  EXPECT_EQ(back.lora.rank, 4);
  EXPECT_EQ(back.lora.target_modules.names.size(), 2u);
}

TEST(Match, NamesAreWholeSuffixes) {
  EXPECT_TRUE(has_suffix("model.layers.0.q_proj", "q_proj"));
  EXPECT_TRUE(has_suffix("q_proj", "q_proj"));
  EXPECT_FALSE(has_suffix("model.relative_k_proj", "k_proj"));
  EXPECT_FALSE(has_suffix("k_proj", "model.k_proj"));
}

TEST(Match, PatternsMatchAtTheEndAndTheFirstCounts) {
  const PatternTable<std::int64_t> table({{"vision.*q_proj", 3}, {"q_proj", 5}, {"proj", 7}}, "rank_pattern");
  EXPECT_EQ(table.find({"model.vision.q_proj"}, 1), 3);
  EXPECT_EQ(table.find({"model.text.q_proj"}, 1), 5);
  EXPECT_EQ(table.find({"model.text.v_proj"}, 1), 1);
  EXPECT_EQ(table.find({"model.q_proj", "model.q_proj.linear"}, 1), 5);
  const PatternTable<std::int64_t> both({{"q_proj", 5}, {R"(q_proj\.linear)", 7}}, "rank_pattern");
  EXPECT_EQ(both.find({"model.q_proj", "model.q_proj.linear"}, 1), 7);  // as PEFT, which knows the last spelling only
}

TEST(Match, APlainPatternMatchesAsTheRegexItIs) {
  for (const std::string pattern : {"q_proj", "a.q_proj", "layers.1.q_proj", "", "."}) {
    ASSERT_TRUE(is_plain(pattern));
    const io::Pattern regex("(.*\\.)?(" + pattern + ")", "rank_pattern");
    for (const std::string name :
         {"q_proj", "a.q_proj", "a_q_proj", "x.a_q_proj", "layers.11.q_proj", "layers.1.q_proj.", "a.", ""})
      EXPECT_EQ(matches_plain(name, pattern), regex.matches(name)) << pattern << " " << name;
  }
  EXPECT_FALSE(is_plain("q|v"));
}

// peft 0.21.2: check_target_module_exists.
TEST(Match, TheLayerIsTheFirstNumberWithTwoPartsBeforeIt) {
  EXPECT_EQ(layer_number("model.language_model.layers.12.mlp.up_proj", {}), 12);
  EXPECT_EQ(layer_number("model.layers.3.experts.7.up_proj", {}), 3);
  EXPECT_EQ(layer_number("layers.3.mlp.up_proj", {}), std::nullopt);
  EXPECT_EQ(layer_number("model.layers.3", {}), std::nullopt);
  EXPECT_EQ(layer_number("model.embed_vision.embedding_projection", {}), std::nullopt);
  std::vector<io::Pattern> experts;
  experts.emplace_back("(.*\\.)?(experts)", "layers_pattern");
  EXPECT_EQ(layer_number("model.layers.3.experts.7.up_proj", experts), 7);
  EXPECT_EQ(layer_number("model.layers.3.up_proj", experts), std::nullopt);
}

TEST(Match, TargetsAreInTheChosenLayersUnlessNamedInFull) {
  LoraConfig config;
  config.target_modules = ModulePattern::from_names({"q_proj", "model.layers.0.k_proj"});
  config.layers_to_transform = {1};
  const ModuleMatcher matcher(config);
  EXPECT_TRUE(matcher.matches({"model.layers.1.q_proj"}));
  EXPECT_FALSE(matcher.matches({"model.layers.11.q_proj"}));
  EXPECT_TRUE(matcher.matches({"model.layers.0.k_proj"}));
  config.layers_pattern = {"blocks"};
  EXPECT_FALSE(ModuleMatcher(config).matches({"model.layers.1.q_proj"}));
}

TEST(Match, NearestNamesComeFirst) {
  const auto near = nearest_names("qproj", {"gate_proj", "q_proj", "v_proj", "q_proj"}, 2);
  EXPECT_EQ(near, (std::vector<std::string>{"q_proj", "v_proj"}));
}

}  // namespace
}  // namespace bezel::lora
