#include "bezel/gemma4/load.h"

#include <filesystem>
#include <fstream>
#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>
#include <torch/types.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/random_keys.h"
#include "bezel/train/loss.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;

const LoadOptions kFloat32{.dtype = torch::kFloat, .device = torch::kCPU};

Tensor logits(Model& model, const input::Batch& batch) {
  torch::NoGradGuard no_grad;
  return model->logits(model->hidden_states(batch).flatten(0, 1));
}

// Loads a tiny checkpoint whose tensors `change` has rewritten.
LoadedModel load_after(const std::function<void(Tensors&)>& change) {
  const test::TempFolder temp;
  const std::string folder = temp.path().string();
  test::write_tiny_checkpoint(folder);
  Tensors tensors = io::load_safetensors(folder + "/model.safetensors");
  for (auto& [name, tensor] : tensors) tensor = tensor.clone();
  change(tensors);
  io::save_safetensors(folder + "/model.safetensors", {tensors.begin(), tensors.end()});
  return load_model(folder, kFloat32);
}

// What loading it says.
std::string error_after(const std::function<void(Tensors&)>& change) {
  try {
    load_after(change);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

testing::AssertionResult says(const std::string& message, const std::string& part) {
  if (message.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << message << "' does not say '" << part << "'";
}

TEST(LoadModel, NestedAndFlatGiveTheSameBytes) {
  const test::TempFolder nested_temp, flat_temp;
  const std::string nested = nested_temp.path().string(), flat = flat_temp.path().string();
  test::write_tiny_checkpoint(nested, true);
  test::write_tiny_checkpoint(flat, false);
  LoadedModel a = load_model(nested, kFloat32), b = load_model(flat, kFloat32);
  EXPECT_EQ(a.layout, io::KeyLayout::kNested);
  EXPECT_EQ(b.layout, io::KeyLayout::kFlat);
  EXPECT_EQ(a.ignored.size(), 2u);
  const input::Batch batch = test::tiny_batch();
  EXPECT_TRUE(torch::equal(logits(a.model, batch), logits(b.model, batch)));
}

TEST(LoadModel, ClampsAreThere) {
  const test::TempFolder temp;
  const std::string folder = temp.path().string();
  test::write_tiny_checkpoint(folder);
  LoadedModel loaded = load_model(folder, kFloat32);
  int clipped = 0;
  const input::Batch batch = test::tiny_batch();
  const Tensor before = logits(loaded.model, batch);
  for (const auto& module : loaded.model->modules())
    if (auto* linear = dynamic_cast<nn::LinearImpl*>(module.get()); linear != nullptr && linear->clip) {
      ++clipped;
      EXPECT_EQ(linear->clip->output_min, -1.0);
      linear->clip.reset();
    }
  EXPECT_EQ(clipped, 2 * 7 + 2 * 10);
  EXPECT_FALSE(torch::allclose(before, logits(loaded.model, batch), 1e-3, 1e-3));
}

TEST(LoadModel, StrictInBothDirections) {
  EXPECT_EQ(error_after([](Tensors&) {}), "");
  const std::string norm = "model.language_model.norm.weight";
  EXPECT_TRUE(says(error_after([&](Tensors& t) { t.erase(norm); }), "'" + norm + "' is missing"));
  EXPECT_TRUE(says(error_after([](Tensors& t) { t["model.extra.weight"] = torch::ones({2}); }), "model.extra.weight"));
  EXPECT_TRUE(says(error_after([&](Tensors& t) { t[norm] = torch::ones({17}); }), "[17], config.json makes it [16]"));
  EXPECT_TRUE(says(error_after([&](Tensors& t) { t[norm] = torch::ones({16}, at::kLong); }), "I64"));
  // A decoy: `.linear.weight` outside the towers is no other spelling of `.weight`.
  EXPECT_TRUE(says(error_after([&](Tensors& t) {
                     t["model.language_model.layers.0.mlp.up_proj.linear.weight"] =
                         t["model.language_model.layers.0.mlp.up_proj.weight"];
                     t.erase("model.language_model.layers.0.mlp.up_proj.weight");
                   }),
                   "'model.language_model.layers.0.mlp.up_proj.weight' is missing"));
  const std::string q = "model.vision_tower.encoder.layers.0.self_attn.q_proj.";
  EXPECT_TRUE(says(error_after([&](Tensors& t) { t[q + "weight"] = t[q + "linear.weight"]; }), "two spellings"));
}

TEST(LoadModel, BoundsMayBeInfiniteButNotNanOrCrossed) {
  const std::string bound = "model.audio_tower.layers.1.lconv1d.linear_end.output_max";
  const auto with = [&](float value) { return error_after([&](Tensors& t) { t[bound] = torch::tensor(value); }); };
  EXPECT_EQ(with(std::numeric_limits<float>::infinity()), "");
  EXPECT_EQ(error_after([&](Tensors& t) { t.erase(bound); }), "");
  EXPECT_TRUE(says(with(std::numeric_limits<float>::quiet_NaN()), bound));
  EXPECT_TRUE(says(with(-5.0f), "output_min -1 is above output_max -5"));
}

// transformers: a head of its own is used whatever config.json ties; one that is alone stands for the embeddings.
TEST(LoadModel, AStoredHeadIsUsedWhereItDiffers) {
  const std::string embeddings = "model.language_model.embed_tokens.weight";
  const auto head_of = [](LoadedModel& model) { return model.model->output_embedding()->dequantize(torch::kFloat); };
  LoadedModel tied = load_after([](Tensors&) {});
  LoadedModel equal = load_after([&](Tensors& t) { t["lm_head.weight"] = t.at(embeddings).clone(); });
  LoadedModel alone = load_after([&](Tensors& t) {
    t["lm_head.weight"] = t.at(embeddings).clone();
    t.erase(embeddings);
  });
  LoadedModel own = load_after([&](Tensors& t) { t["lm_head.weight"] = t.at(embeddings) + 1; });
  EXPECT_TRUE(tied.warnings.empty() && equal.warnings.empty());
  EXPECT_TRUE(torch::equal(head_of(equal), head_of(tied)));
  EXPECT_TRUE(torch::equal(head_of(alone), head_of(tied)));
  EXPECT_TRUE(torch::equal(logits(alone.model, test::tiny_batch()), logits(equal.model, test::tiny_batch())));
  EXPECT_TRUE(torch::equal(head_of(own), head_of(tied) + 1));
  ASSERT_EQ(own.warnings.size(), 1u);
  EXPECT_TRUE(says(own.warnings[0], "lm_head.weight differs"));
}

TEST(LoadModel, WhatOtherToolsLeaveInAFileIsPassedOver) {
  const std::string layer = "model.language_model.layers.0.self_attn.";
  EXPECT_EQ(error_after([&](Tensors& t) {
              t[layer + "rotary_emb.inv_freq"] = torch::ones({2});
              t["model.language_model.rotary_emb.sliding_attention_inv_freq"] = torch::ones({2});
              t[layer + "k_scale"] = torch::ones({1});
              t[layer + "v_proj.output_scale"] = torch::ones({1});
            }),
            "");
  EXPECT_TRUE(says(error_after([&](Tensors& t) { t[layer + "extra_scale"] = torch::ones({1}); }), "has no place"));
}

TEST(LoadModel, AForeignPrefixIsNamed) {
  const auto with_prefix = [](const std::string& prefix) {
    return error_after([&](Tensors& tensors) {
      Tensors renamed;
      for (const auto& [name, tensor] : tensors) renamed[prefix + name] = tensor;
      tensors = renamed;
    });
  };
  EXPECT_TRUE(says(with_prefix("_orig_mod."), "torch.compile"));
  EXPECT_TRUE(says(with_prefix("base_model.model."), "merge_and_unload"));
  EXPECT_TRUE(says(with_prefix("net."), "the prefix 'net.'"));
  EXPECT_EQ(with_prefix("model."), "");
}

TEST(LoadModel, ATowerWhoseBoundsAreAllInfiniteIsSaid) {
  const test::TempFolder temp;
  const std::string folder = temp.path().string();
  test::write_tiny_checkpoint(folder);
  Tensors tensors = io::load_safetensors(folder + "/model.safetensors");
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.clone();
    if (name.starts_with("model.audio_tower.") && (name.ends_with("_min") || name.ends_with("_max")))
      tensor.fill_(name.ends_with("_min") ? -INFINITY : INFINITY);
  }
  io::save_safetensors(folder + "/model.safetensors", {tensors.begin(), tensors.end()});
  const std::vector<std::string> warnings = load_model(folder, kFloat32).warnings;
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(says(warnings[0], "clip bounds of the audio tower"));
}

TEST(LoadModel, BfloatWeightsStayMapped) {
  const test::TempFolder temp;
  const std::string folder = temp.path().string();
  test::write_tiny_checkpoint(folder);
  Tensors tensors = io::load_safetensors(folder + "/model.safetensors");
  std::vector<std::pair<std::string, Tensor>> halved;
  for (const auto& [name, tensor] : tensors) halved.emplace_back(name, tensor.to(torch::kBFloat16));
  io::save_safetensors(folder + "/model.safetensors", halved);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    LoadedModel loaded = load_model(folder, {.dtype = dtype, .device = torch::kCPU});
    EXPECT_EQ(loaded.model->output_embedding()->storage(), "bfloat16");
    EXPECT_EQ(logits(loaded.model, test::tiny_batch()).scalar_type(), dtype);
  }
}

TEST(LoadModel, PaddingPatchesAndFramesChangeNothing) {
  const test::TempFolder temp;
  const std::string folder = temp.path().string();
  test::write_tiny_checkpoint(folder);
  LoadedModel loaded = load_model(folder, kFloat32);
  input::RawInputs raw;
  raw.input_ids = torch::tensor({{2, 60, 60, 5}});
  const Tensor index = torch::arange(18, at::kLong);
  raw.pixel_values = torch::rand({1, 18, 48});
  raw.image_position_ids = torch::stack({index.remainder(6), index.div(6, "floor")}, -1).unsqueeze(0);
  const input::MediaTokenIds ids{{{60, 61, 62}}};
  const Tensor exact = logits(loaded.model, input::make_batch(raw, ids, 3));
  raw.pixel_values = torch::constant_pad_nd(raw.pixel_values, {0, 0, 0, 9});
  raw.image_position_ids = torch::constant_pad_nd(raw.image_position_ids, {0, 0, 0, 9}, -1);
  EXPECT_TRUE(torch::equal(exact, logits(loaded.model, input::make_batch(raw, ids, 3))));
}

// Stray host access shows on `meta`: nothing can be read back there. Experts are routed on the host and left out.
TEST(MetaModel, WholeTrainingStepRunsWithoutValues) {
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    Model model = meta_model(test::tiny_config(), dtype);
    std::vector<Tensor> parameters;
    for (const auto& module : model->modules())
      if (auto* linear = dynamic_cast<nn::LinearImpl*>(module.get())) {
        const auto leaf = [&](std::int64_t rows, std::int64_t columns) {
          parameters.push_back(torch::zeros({rows, columns}, torch::kMeta).requires_grad_());
          return parameters.back();
        };
        const Tensor a = leaf(2, linear->in_features), b = leaf(linear->out_features, 2);
        linear->adapter = nn::Adapter{.a = a, .b = b, .scale = 1.0, .dropout = 0.1};
      }
    const input::Batch batch = test::tiny_batch().to(torch::kMeta);
    model->train();
    const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(/*seed=*/0, /*update=*/0));
    const Tensor loss =
        train::cross_entropy_sum(model->label_states(batch), *model->output_embedding(), batch.label_ids, 30.0);
    loss.backward();
    for (const Tensor& parameter : parameters) EXPECT_TRUE(parameter.grad().defined());
    torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-3));
    optimizer.step();
  }
}

}  // namespace
}  // namespace bezel::gemma4
