#include "bezel/lora/targets.h"

#include <cmath>
#include <map>
#include <tuple>

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

// Decoder layers of four experts each, and a head of its own.
gemma4::Model mixture() {
  gemma4::ModelConfig shape = test::tiny_config();
  shape.text.num_experts = 4;
  shape.text.top_k_experts = 2;
  shape.text.moe_intermediate_size = 8;
  shape.text.tie_word_embeddings = false;
  return gemma4::Model(shape, torch::kFloat);
}

// Matrices that target_modules do not choose are named for what they are.
TEST(Targets, NameOfAnotherKindOfMatrixSaysWhich) {
  gemma4::Model model = mixture();
  for (const auto& [name, reason, advice] :
       {std::tuple("embed_tokens_per_layer", "embed_tokens_per_layer is an embedding table",
                   "linear layers, embed_tokens and lm_head"),
        std::tuple("experts.gate_up_proj", "layers.0.experts.gate_up_proj is a stack of experts",
                   "target_parameters")}) {
    const std::string message = test::error_of([&] {
      select_targets(*model, config_for({Tower::kLanguage}, ModulePattern::from_names({name, "q_proj"})));
    });
    EXPECT_TRUE(test::says(message, reason)) << message;
    EXPECT_TRUE(test::says(message, advice)) << message;
  }
}

TEST(Targets, ExpertsAreChosenByTheirTowerOrByName) {
  gemma4::Model model = mixture();  // of four layers
  const auto count = [&](const LoraConfig& config) {
    std::map<Tower, std::int64_t> layers;
    for (const TowerCount& row : select_targets(*model, config).counts()) layers[row.tower] = row.layers;
    return layers;
  };
  const auto names = ModulePattern::from_names({"q_proj"});
  using Counts = std::map<Tower, std::int64_t>;
  EXPECT_EQ(count(config_for({Tower::kLanguage}, names)), (Counts{{Tower::kLanguage, 4}}));
  EXPECT_FALSE(count(config_for({Tower::kLanguage}, ModulePattern::from_text("all-linear"))).contains(Tower::kExperts));
  EXPECT_EQ(count(config_for({Tower::kLanguage, Tower::kExperts}, names)),
            (Counts{{Tower::kLanguage, 4}, {Tower::kExperts, 8}}));
  EXPECT_EQ(count(config_for({Tower::kExperts})), (Counts{{Tower::kExperts, 8}}));
  LoraConfig config = config_for({Tower::kLanguage}, names);
  config.target_parameters = {"experts.down_proj"};
  EXPECT_EQ(count(config), (Counts{{Tower::kLanguage, 4}, {Tower::kExperts, 4}}));
  config.layers_to_transform = {1, 3};
  EXPECT_EQ(count(config), (Counts{{Tower::kLanguage, 2}, {Tower::kExperts, 2}}));
  config.layers_to_transform.clear();
  config.exclude_modules = ModulePattern::from_text(R"(.*layers\.0\.experts.*)");
  EXPECT_EQ(count(config), (Counts{{Tower::kLanguage, 4}, {Tower::kExperts, 3}}));
  config.target_modules = ModulePattern::from_names({});
  EXPECT_EQ(count(config), (Counts{{Tower::kExperts, 3}}));
}

TEST(Targets, StacksOfExpertsHaveTensorsOfPeftsShapes) {
  gemma4::Model model = mixture();
  LoraConfig config = config_for({Tower::kExperts});
  config.rank_pattern = {{"layers\\.1\\.experts\\.down_proj", 5}};
  config.target_parameters = {"experts.gate_up_proj", "layers.1.experts.down_proj"};
  Selection selection = select_targets(*model, config);
  attach(selection, config);
  const std::int64_t hidden = model->config().text.hidden_size;
  ASSERT_EQ(selection.targets.size(), 5u);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, tensor] : selection.named_tensors()) shapes[name] = tensor.sizes().vec();
  const std::string prefix = "base_model.model.model.language_model.layers.";
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shapes.at(prefix + "0.experts.lora_A.weight"), (Shape{4 * 2, hidden}));  // gate_up_proj alone
  EXPECT_EQ(shapes.at(prefix + "0.experts.lora_B.weight"), (Shape{16, 2 * 4}));
  EXPECT_EQ(shapes.at(prefix + "1.experts.base_layer.lora_A.weight"), (Shape{4 * 2, hidden}));
  EXPECT_EQ(shapes.at(prefix + "1.experts.lora_A.weight"), (Shape{4 * 5, 8}));
  EXPECT_EQ(shapes.at(prefix + "1.experts.lora_B.weight"), (Shape{hidden, 5 * 4}));
  EXPECT_EQ(selection.parameters(), 4 * 4 * 2 * (hidden + 16) + 4 * 5 * (8 + hidden));
  const torch::Tensor a = selection.targets[0].adapter()->a.detach();
  EXPECT_LE(a.abs().max().item<double>(), 1.0 / std::sqrt(static_cast<double>(hidden)));
  EXPECT_GT(a.abs().min().item<double>(), 0.0);
  detach_all(*model);
  EXPECT_FALSE(selection.targets[0].adapter());
}

TEST(Targets, ExpertsThatCannotBeAdaptedAreRefused) {
  gemma4::Model model = mixture();
  const auto message = [&](const LoraConfig& config) {
    return test::error_of([&] { select_targets(*model, config); });
  };
  LoraConfig config = config_for({Tower::kExperts});
  config.dropout = 0.1;
  EXPECT_TRUE(test::says(message(config), "lora_dropout"));
  config = config_for({Tower::kLanguage});
  config.target_parameters = {"experts.up_proj"};
  EXPECT_TRUE(test::says(message(config), "'experts.up_proj'"));
  config = config_for({Tower::kExperts});
  config.exclude_modules = ModulePattern::from_names({"gate_up_proj", "down_proj"});
  EXPECT_TRUE(test::says(message(config), "'experts'"));
  EXPECT_NE(refusal(config_for({Tower::kLanguage, Tower::kExperts})).find("'experts' is not in this model"),
            std::string::npos);
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
  Selection selection = select_targets(model, config);
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
  Selection selection = select_targets(model, config);
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
