#include "bezel/lora/targets.h"

#include <cmath>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/gemma4/model.h"
#include "lora/tiny_linears.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::lora {
namespace {

using test::TinyLinears;

constexpr Tower kAll[] = {Tower::kLanguage, Tower::kVision, Tower::kAudio, Tower::kProjectors};

LoraConfig config_for(std::vector<Tower> towers, ModulePattern targets = {}) {
  return {.rank = 2, .alpha = 4, .towers = std::move(towers), .target_modules = std::move(targets)};
}

std::vector<std::string> names_of(const Selection& selection) {
  std::vector<std::string> names;
  for (const Target& target : selection.targets) names.push_back(target.name);
  return names;
}

std::string refusal(const LoraConfig& config, const SelectOptions& options = {}) {
  TinyLinears model;
  try {
    select_targets(model, config, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "";
}

TEST(Targets, DefaultsAreTheProjectionsOfTheChosenTowers) {
  TinyLinears model;
  const Selection language = select_targets(model, config_for({Tower::kLanguage}));
  EXPECT_EQ(language.targets.size(), 6u);  // 2 x (q, v, up); the per-layer gate is none
  const Selection audio = select_targets(model, config_for({Tower::kAudio}));
  EXPECT_EQ(names_of(audio), (std::vector<std::string>{"model.audio_tower.layers.0.self_attn.q_proj",
                                                       "model.audio_tower.layers.0.feed_forward1.ffw_layer_1"}));
}

TEST(Targets, PlainNamesFindClippedLayersInEveryTower) {
  TinyLinears model;
  const auto config =
      config_for({Tower::kLanguage, Tower::kVision, Tower::kAudio}, ModulePattern::from_names({"q_proj"}));
  const auto counts = select_targets(model, config).counts();
  ASSERT_EQ(counts.size(), 3u);
  EXPECT_EQ(counts[0].layers, 2);
  EXPECT_EQ(counts[1].layers, 1);
  EXPECT_EQ(counts[2].layers, 1);
  EXPECT_EQ(counts[0].parameters, 2 * 2 * (6 + 4));
}

TEST(Targets, BothSpellingsSelectTheSameLayers) {
  TinyLinears model;
  const std::vector<Tower> towers = {Tower::kVision, Tower::kAudio};
  const auto plain = select_targets(model, config_for(towers, ModulePattern::from_names({"q_proj"})));
  const auto nested = select_targets(model, config_for(towers, ModulePattern::from_names({"q_proj.linear"})));
  const auto regex =
      select_targets(model, config_for(towers, ModulePattern::from_text(R"(.*self_attn\.q_proj\.linear)")));
  const auto flat_regex = select_targets(model, config_for(towers, ModulePattern::from_text(R"(.*self_attn\.q_proj)")));
  EXPECT_EQ(names_of(plain).size(), 2u);
  EXPECT_EQ(names_of(plain), names_of(nested));
  EXPECT_EQ(names_of(plain), names_of(regex));
  EXPECT_EQ(names_of(plain), names_of(flat_regex));
}

TEST(Targets, AllLinearIsEverythingButTheHead) {
  TinyLinears model;
  const auto selection =
      select_targets(model, config_for({std::begin(kAll), std::end(kAll)}, ModulePattern::from_text("ALL-linear")));
  EXPECT_EQ(selection.targets.size(), TinyLinears::all_names().size() - 1);
}

TEST(Targets, RegexMustMatchTheWholeName) {
  const std::string message = refusal(config_for({Tower::kLanguage}, ModulePattern::from_text("q_proj")));
  EXPECT_NE(message.find("q_proj"), std::string::npos);
}

TEST(Targets, ExclusionTakesLayersOut) {
  TinyLinears model;
  LoraConfig config = config_for({Tower::kLanguage}, ModulePattern::from_names({"q_proj", "v_proj"}));
  config.exclude_modules = ModulePattern::from_text(R"(.*layers\.1\..*)");
  EXPECT_EQ(names_of(select_targets(model, config)),
            (std::vector<std::string>{"model.language_model.layers.0.self_attn.q_proj",
                                      "model.language_model.layers.0.self_attn.v_proj"}));
}

TEST(Targets, UnknownNameIsRefusedWithTheNearest) {
  const std::string message = refusal(config_for({Tower::kLanguage}, ModulePattern::from_names({"q_proj", "vproj"})));
  EXPECT_NE(message.find("'vproj'"), std::string::npos) << message;
  EXPECT_NE(message.find("v_proj"), std::string::npos) << message;
}

TEST(Targets, NameOfAnotherTowerSaysWhere) {
  const std::string message = refusal(config_for({Tower::kLanguage}, ModulePattern::from_names({"ffw_layer_1"})));
  EXPECT_NE(message.find("audio"), std::string::npos) << message;
}

// Matrices that no adapter attaches to are named for what they are.
TEST(Targets, NameOfAnotherKindOfMatrixSaysWhich) {
  gemma4::ModelConfig shape = test::tiny_config();
  shape.text.num_experts = 4;
  shape.text.top_k_experts = 2;
  shape.text.moe_intermediate_size = 8;
  shape.text.tie_word_embeddings = false;
  gemma4::Model model(shape, torch::kFloat);
  for (const auto& [name, reason] :
       {std::pair("embed_tokens_per_layer", "embed_tokens_per_layer is an embedding table"),
        {"experts.gate_up_proj", "layers.0.experts.gate_up_proj is a stack of experts"}}) {
    const std::string message = test::error_of([&] {
      select_targets(*model, config_for({Tower::kLanguage}, ModulePattern::from_names({name, "q_proj"})));
    });
    EXPECT_TRUE(test::says(message, reason)) << message;
    EXPECT_TRUE(test::says(message, "linear layers, embed_tokens and lm_head")) << message;
  }
}

TEST(Targets, ChosenTowerWithoutLayersIsRefused) {
  EXPECT_NE(
      refusal(config_for({Tower::kLanguage, Tower::kVision}, ModulePattern::from_names({"v_proj"}))).find("'vision'"),
      std::string::npos);
  TinyLinears text({"model.language_model.layers.0.self_attn.q_proj"});
  EXPECT_THROW(select_targets(text, config_for({Tower::kAudio})), Error);
}

TEST(Targets, ProjectorsFollowTheData) {
  TinyLinears model;
  const auto images = select_targets(model, config_for({Tower::kProjectors}), {.media = {{true, false}}});
  EXPECT_EQ(names_of(images), (std::vector<std::string>{"model.embed_vision.embedding_projection"}));
  EXPECT_NE(refusal(config_for({Tower::kProjectors}), {.media = {{false, false}}}).find("projectors"),
            std::string::npos);
}

TEST(Targets, TextOnlyRegexesUseTheirOwnSpelling) {
  TinyLinears model({"model.language_model.layers.0.self_attn.q_proj"});
  const auto config = config_for({Tower::kLanguage}, ModulePattern::from_text(R"(model\.layers\.\d+\.self_attn\..*)"));
  EXPECT_EQ(select_targets(model, config, {.text_only = true}).targets.size(), 1u);
  EXPECT_THROW(select_targets(model, config), Error);
}

TEST(Targets, PatternsSetRankAndAlpha) {
  TinyLinears model;
  LoraConfig config = config_for({Tower::kLanguage}, ModulePattern::from_names({"q_proj", "v_proj"}));
  config.rank_pattern = {{R"(layers\.1\.self_attn\.q_proj)", 5}};
  config.alpha_pattern = {{"v_proj", 1.5}};
  const Selection selection = select_targets(model, config);
  ASSERT_EQ(selection.targets.size(), 4u);
  EXPECT_EQ(selection.targets[0].rank, 2);
  EXPECT_EQ(selection.targets[1].alpha, 1.5);
  EXPECT_EQ(selection.targets[2].rank, 5);
  attach(selection, config);
  EXPECT_EQ(selection.targets[2].layer->adapter->a.size(0), 5);
  EXPECT_DOUBLE_EQ(selection.targets[1].layer->adapter->scale, 0.75);
}

TEST(Attach, StartsAsPeftDoes) {
  TinyLinears model;
  const LoraConfig config = config_for({Tower::kLanguage});
  const Selection selection = select_targets(model, config);
  attach(selection, config);
  for (const Target& target : selection.targets) {
    const nn::Adapter& adapter = *target.layer->adapter;
    EXPECT_EQ(adapter.a.sizes(), (torch::IntArrayRef{2, 6}));
    EXPECT_EQ(adapter.b.sizes(), (torch::IntArrayRef{4, 2}));
    EXPECT_EQ(adapter.a.scalar_type(), torch::kFloat);
    EXPECT_TRUE(adapter.a.requires_grad() && adapter.a.is_leaf());
    EXPECT_EQ(adapter.b.abs().max().item<float>(), 0.0f);
    EXPECT_LE(adapter.a.abs().max().item<double>(), 1 / std::sqrt(6.0));
    EXPECT_GT(adapter.a.abs().min().item<double>(), 0.0);
  }
  EXPECT_EQ(selection.tensors().size(), 2 * selection.targets.size());
}

}  // namespace
}  // namespace bezel::lora
