#include "bezel/lora/adapter_io.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "lora/tiny_linears.h"
#include "support/temp_folder.h"

namespace bezel::lora {
namespace {

using test::error_of;
using test::says;
using test::TinyLinears;
using Tensors = std::map<std::string, torch::Tensor>;

const std::string kText = "base_model.model.model.language_model.layers.0.self_attn.q_proj.";
const std::string kVision = "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.";

LoraConfig small_config() {
  return {.rank = 2,
          .alpha = 4,
          .towers = {Tower::kLanguage, Tower::kVision},
          .target_modules = ModulePattern::from_names({"q_proj", "v_proj"}),
          .rank_pattern = {{"vision_tower.*q_proj", 3}},
          .alpha_pattern = {{"v_proj", 5}}};
}

/// A folder with the adapter that small_config makes, B random.
void save_small(const std::string& folder) {
  TinyLinears model;
  const LoraConfig config = small_config();
  Selection selection = select_targets(model, config);
  attach(selection, config);
  const torch::NoGradGuard no_grad;
  for (const Target& target : selection.targets) target.layer->adapter->b.normal_();
  std::filesystem::create_directories(folder);
  save_adapter(folder, selection, config, {.path = "some/base"});
}

/// Rewrites the tensors of an adapter folder.
template <typename Change>
void edit(const std::string& folder, const Change& change) {
  const std::string path = folder + "/adapter_model.safetensors";
  Tensors tensors;
  for (const auto& [name, tensor] : io::load_safetensors(path)) tensors[name] = tensor.clone();
  change(tensors);
  io::save_safetensors(path, {tensors.begin(), tensors.end()});
}

class AdapterFolder : public testing::Test {
 protected:
  void SetUp() override { save_small(path); }

  std::string refusal() {
    return error_of([&] {
      TinyLinears model;
      load_adapter(model, path);
    });
  }

  test::TempFolder folder;
  std::string path = folder / "adapter";
};

TEST_F(AdapterFolder, KeysAreInTheReleasedSpelling) {
  std::set<std::string> keys;
  for (const auto& [name, tensor] : io::load_safetensors(path + "/adapter_model.safetensors")) keys.insert(name);
  EXPECT_EQ(keys.size(), 2u * 5u);
  EXPECT_TRUE(keys.contains(kText + "lora_A.weight"));
  EXPECT_TRUE(keys.contains(kVision + "linear.lora_B.weight"));
  const io::Json json = io::read_json_file(path + "/adapter_config.json");
  EXPECT_EQ(json["rank_pattern"],
            io::Json::parse(R"({"model.vision_tower.encoder.layers.0.self_attn.q_proj.linear": 3})"));
  EXPECT_EQ(json["base_model_name_or_path"], "some/base");
}

TEST_F(AdapterFolder, ComesBackBitForBit) {
  TinyLinears model;
  const LoadedAdapter loaded = load_adapter(model, path);
  ASSERT_EQ(loaded.selection.targets.size(), 5u);
  for (const auto& [name, tensor] : io::load_safetensors(path + "/adapter_model.safetensors")) {
    const bool is_vision = name.starts_with(kVision);
    if (!is_vision && !name.starts_with(kText)) continue;
    const nn::Adapter& adapter = *model
                                      .layer(is_vision ? "model.vision_tower.encoder.layers.0.self_attn.q_proj"
                                                       : "model.language_model.layers.0.self_attn.q_proj")
                                      ->adapter;
    EXPECT_TRUE(torch::equal(name.ends_with("lora_A.weight") ? adapter.a : adapter.b, tensor)) << name;
    EXPECT_DOUBLE_EQ(adapter.scale, is_vision ? 4.0 / 3 : 2.0);
    EXPECT_TRUE(adapter.a.requires_grad());
  }
  EXPECT_DOUBLE_EQ(model.layer("model.language_model.layers.0.self_attn.v_proj")->adapter->scale, 2.5);
}

TEST_F(AdapterFolder, TheSpellingWithoutLinearLoadsToo) {
  edit(path, [](Tensors& tensors) {
    for (const char* part : {"lora_A.weight", "lora_B.weight"}) {
      auto node = tensors.extract(kVision + "linear." + part);
      node.key() = kVision + part;
      tensors.insert(std::move(node));
    }
  });
  TinyLinears model;
  EXPECT_EQ(load_adapter(model, path).selection.targets.size(), 5u);
}

TEST_F(AdapterFolder, HalfPrecisionBecomesFloat) {
  edit(path, [](Tensors& tensors) {
    for (auto& [name, tensor] : tensors) tensor = tensor.to(torch::kBFloat16);
  });
  TinyLinears model;
  const auto loaded = load_adapter(model, path);
  EXPECT_EQ(loaded.selection.targets[0].layer->adapter->a.scalar_type(), torch::kFloat);
}

TEST_F(AdapterFolder, MissingHalfOfAPairIsRefused) {
  edit(path, [](Tensors& tensors) { tensors.erase(kText + "lora_B.weight"); });
  EXPECT_TRUE(says(refusal(), kText + "lora_A.weight"));
}

// PEFT makes such layers with a B of zeros, and warns.
TEST_F(AdapterFolder, TheTensorsSayWhichLayers) {
  edit(path, [](Tensors& tensors) {
    tensors.erase(kText + "lora_A.weight");
    tensors.erase(kText + "lora_B.weight");
  });
  TinyLinears model;
  const LoadedAdapter loaded = load_adapter(model, path);
  EXPECT_EQ(loaded.selection.targets.size(), 4u);
  EXPECT_FALSE(model.layer("model.language_model.layers.0.self_attn.q_proj")->adapter);
  ASSERT_EQ(loaded.notes.size(), 1u);
  EXPECT_TRUE(says(loaded.notes[0], "language_model.layers.0.self_attn.q_proj"));
}

TEST_F(AdapterFolder, KeysAndValuesThatNoLayerComputesArePassedOver) {
  const std::string shared = "base_model.model.model.language_model.layers.1.self_attn.k_proj.";
  edit(path, [&](Tensors& tensors) {
    tensors[shared + "lora_A.weight"] = torch::ones({2, 6});
    tensors[shared + "lora_B.weight"] = torch::ones({4, 2});
  });
  TinyLinears model;
  const LoadedAdapter loaded = load_adapter(model, path);
  EXPECT_EQ(loaded.selection.targets.size(), 5u);
  ASSERT_EQ(loaded.notes.size(), 1u);
  EXPECT_TRUE(says(loaded.notes[0], "layers.1.self_attn.k_proj"));
}

TEST_F(AdapterFolder, NamesOfTheOtherClassLoadToo) {
  edit(path, [](Tensors& tensors) {
    for (const char* layer : {"0", "1"})
      for (const char* part : {"q_proj", "v_proj"})
        for (const char* half : {"lora_A.weight", "lora_B.weight"}) {
          const std::string tail = std::string("layers.") + layer + ".self_attn." + part + "." + half;
          auto node = tensors.extract("base_model.model.model.language_model." + tail);
          node.key() = "base_model.model.model." + tail;
          tensors.insert(std::move(node));
        }
  });
  io::Json json = io::read_json_file(path + "/adapter_config.json");
  for (io::Json& name : json["target_modules"]) {
    std::string text = name;
    if (const auto at = text.find("language_model."); at != text.npos) name = text.erase(at, 15);
  }
  test::write_bytes(path + "/adapter_config.json", json.dump());
  TinyLinears model;
  const LoadedAdapter loaded = load_adapter(model, path);
  EXPECT_EQ(loaded.selection.targets.size(), 5u);
  EXPECT_TRUE(loaded.notes.empty());
}

TEST_F(AdapterFolder, MatricesSavedBesideLoraMustBeTheBases) {
  TinyLinears model;
  const torch::Tensor head = model.layer("lm_head")->weight->dequantize(torch::kFloat);
  edit(path, [&](Tensors& tensors) { tensors["base_model.model.lm_head.weight"] = head.clone(); });
  const LoadedAdapter loaded = load_adapter(model, path);
  ASSERT_EQ(loaded.notes.size(), 1u);
  EXPECT_TRUE(says(loaded.notes[0], "lm_head.weight' equals the base's"));
  edit(path, [](Tensors& tensors) { tensors["base_model.model.lm_head.weight"][1][2] += 1; });
  EXPECT_TRUE(says(test::error_of([&] { load_adapter(model, path); }), "it was trained or resized beside LoRA"));
}

TEST_F(AdapterFolder, FoldersOfOtherKindsAreNamed) {
  const auto with = [&](const std::string& name) {
    const test::TempFolder other;
    test::write_bytes(other / name, "");
    return test::error_of([&] {
      TinyLinears model;
      load_adapter(model, other.path().string());
    });
  };
  EXPECT_TRUE(says(with("adapters.safetensors"), "MLX"));
  EXPECT_TRUE(says(with("config.json"), "a checkpoint, not an adapter"));
  EXPECT_TRUE(says(with("notes.txt"), "no adapter_config.json"));
}

TEST_F(AdapterFolder, ExtraKeysAreRefused) {
  const auto add = [&](const std::string& key) {
    save_small(path);
    edit(path, [&](Tensors& tensors) { tensors[key] = torch::zeros({2, 6}); });
    EXPECT_TRUE(says(refusal(), key));
  };
  add("base_model.model.lm_head.weight");
  add(kText + "lora_magnitude_vector.weight");
  add("something");
  const std::string other = "base_model.model.model.language_model.layers.9.self_attn.q_proj.";
  save_small(path);
  edit(path, [&](Tensors& tensors) {
    tensors[other + "lora_A.weight"] = torch::zeros({2, 6});
    tensors[other + "lora_B.weight"] = torch::zeros({4, 2});
  });
  EXPECT_TRUE(says(refusal(), other + "lora_A.weight"));
}

TEST_F(AdapterFolder, TheWrapperInAKeyIsNamed) {
  edit(path, [](Tensors& tensors) {
    Tensors renamed;
    for (auto& [name, tensor] : tensors) renamed["base_model.model._orig_mod." + name.substr(17)] = tensor;
    tensors = renamed;
  });
  EXPECT_TRUE(says(refusal(), "torch.compile"));
}

TEST_F(AdapterFolder, LayerThatTargetModulesDoesNotSelectIsRefused) {
  const std::string gate = "base_model.model.model.language_model.layers.0.mlp.up_proj.";
  edit(path, [&](Tensors& tensors) {
    tensors[gate + "lora_A.weight"] = torch::zeros({2, 6});
    tensors[gate + "lora_B.weight"] = torch::zeros({4, 2});
  });
  EXPECT_TRUE(says(refusal(), gate + "lora_A.weight"));
}

TEST_F(AdapterFolder, OtherRankAndOtherBaseAreRefused) {
  edit(path, [](Tensors& tensors) {
    tensors[kText + "lora_A.weight"] = torch::zeros({5, 6});
    tensors[kText + "lora_B.weight"] = torch::zeros({4, 5});
  });
  EXPECT_TRUE(says(refusal(), "rank"));
  save_small(path);
  edit(path, [](Tensors& tensors) { tensors[kText + "lora_A.weight"] = torch::zeros({2, 7}); });
  EXPECT_TRUE(says(refusal(), kText + "lora_A.weight"));
}

TEST_F(AdapterFolder, NanAndInfAreRefused) {
  for (const float bad : {std::nanf(""), INFINITY}) {
    save_small(path);
    edit(path, [&](Tensors& tensors) { tensors[kText + "lora_B.weight"][1][1] = bad; });
    EXPECT_TRUE(says(refusal(), kText + "lora_B.weight"));
  }
}

TEST_F(AdapterFolder, TwoSpellingsOfOneTensorAreRefused) {
  edit(path, [](Tensors& tensors) {
    tensors[kVision + "lora_A.weight"] = tensors[kVision + "linear.lora_A.weight"].clone();
  });
  EXPECT_TRUE(says(refusal(), "two spellings"));
}

TEST_F(AdapterFolder, PickleIsNeverRead) {
  std::filesystem::remove(path + "/adapter_model.safetensors");
  test::write_bytes(path + "/adapter_model.bin", "\x80\x02");
  EXPECT_TRUE(says(refusal(), "adapter_model.bin"));
}

TEST_F(AdapterFolder, NothingIsAttachedWhenSomethingIsWrong) {
  edit(path, [](Tensors& tensors) { tensors[kVision + "linear.lora_B.weight"][0][0] = NAN; });
  TinyLinears model;
  EXPECT_THROW(load_adapter(model, path), Error);
  EXPECT_FALSE(model.layer("model.language_model.layers.0.self_attn.q_proj")->adapter);
}

}  // namespace
}  // namespace bezel::lora
