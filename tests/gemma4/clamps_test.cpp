#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/gemma4/quantize.h"
#include "bezel/lora/merge.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;

// Storage of the frozen weights, with an adapter or without: the clamps hold in every combination, and a layer that
// had lost them would be seen.
class Clamps : public testing::TestWithParam<std::tuple<quant::Storage, bool>> {};

std::vector<nn::LinearImpl*> clipped_layers(Model& model) {
  std::vector<nn::LinearImpl*> found;
  for (const auto& module : model->modules())
    if (auto* linear = dynamic_cast<nn::LinearImpl*>(module.get()); linear != nullptr && linear->clip)
      found.push_back(linear);
  return found;
}

void adapt(nn::LinearImpl& layer) {
  layer.adapter = nn::Adapter{torch::randn({2, layer.in_features}), torch::randn({layer.out_features, 2}), 0.5, 0};
}

// The layer is clamp(matrix · clamp(x)), and without its clamps it would not be.
void expect_clamped(nn::LinearImpl& layer, const Tensor& matrix) {
  const Tensor x = 3 * torch::randn({6, layer.in_features});
  const Tensor y = layer.forward(x);
  const nn::Clip clip = *layer.clip;
  EXPECT_EQ(clip.output_min, -1.0);
  EXPECT_EQ(clip.output_max, 0.9f);
  const Tensor wanted = x.clamp(clip.input_min, clip.input_max).mm(matrix.t()).clamp(clip.output_min, clip.output_max);
  EXPECT_TRUE(torch::allclose(y, wanted, 1e-4, 1e-5));
  EXPECT_GE(y.min().item<double>(), static_cast<float>(clip.output_min));
  EXPECT_LE(y.max().item<double>(), static_cast<float>(clip.output_max));
  layer.clip.reset();
  EXPECT_FALSE(torch::allclose(layer.forward(x), wanted, 1e-2, 1e-2));
  layer.clip = clip;
}

TEST_P(Clamps, HoldAndAreThoseOfTheDequantizedMatrix) {
  const auto [storage, adapted] = GetParam();
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());  // bounds -1 … 0.9
  Model model = load_model(temp.path().string(), {torch::kFloat, torch::kCPU, {.storage = storage}}).model;
  torch::manual_seed(9);
  const auto layers = clipped_layers(model);
  ASSERT_EQ(layers.size(), 2u * 7 + 2u * 10);  // two vision layers, two audio layers
  for (nn::LinearImpl* layer : layers) {
    if (storage != quant::Storage::kDense) {
      EXPECT_EQ(layer->weight->storage(), storage == quant::Storage::kNf4 ? "nf4" : "int8");
    }
    if (adapted) adapt(*layer);
    Tensor matrix = layer->weight->dequantize(torch::kFloat);
    if (adapted) matrix = matrix + 0.5 * layer->adapter->b.mm(layer->adapter->a);
    expect_clamped(*layer, matrix);
  }
}

// Base in each storage, adapter merged into it, written, read again: dense, and where the base was quantized,
// quantized.
TEST_P(Clamps, HoldAfterMergingAndReloading) {
  const auto [storage, requantize] = GetParam();
  if (storage == quant::Storage::kDense && requantize) return;  // there is nothing to quantize again
  const test::TempFolder temp;
  std::string base = temp.path().string();
  test::write_tiny_checkpoint(base);
  if (storage != quant::Storage::kDense) {
    quantize_checkpoint(base, temp / "codes", {.storage = storage});
    base = temp / "codes";
  }
  Model model = load_model(base, {.dtype = torch::kFloat}).model;
  torch::manual_seed(9);
  std::vector<Tensor> merged;
  for (nn::LinearImpl* layer : clipped_layers(model)) {
    adapt(*layer);
    merged.push_back(layer->weight->dequantize(torch::kFloat) + 0.5 * layer->adapter->b.mm(layer->adapter->a));
  }
  lora::merge_checkpoint(*model, io::Checkpoint::open(base), temp / "merged",
                         {.from_codes = torch::kFloat, .requantize = requantize});
  Model reloaded = load_model(temp / "merged", {.dtype = torch::kFloat}).model;
  const auto layers = clipped_layers(reloaded);
  ASSERT_EQ(layers.size(), merged.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Tensor matrix = layers[i]->weight->dequantize(torch::kFloat);
    EXPECT_EQ(layers[i]->weight->storage() == "float32", !requantize);
    const double error = (matrix - merged[i]).norm().item<double>() / merged[i].norm().item<double>();
    EXPECT_LT(error, requantize ? 0.15 : 1e-6);
    expect_clamped(*layers[i], matrix);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryStorage, Clamps,
                         testing::Combine(testing::Values(quant::Storage::kDense, quant::Storage::kNf4,
                                                          quant::Storage::kInt8),
                                          testing::Bool()));

// Compute dtype never comes from storage dtype: every tower runs on uint8 codes.
TEST(QuantizedModel, EveryTowerTrainsOnCodes) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  for (const auto storage : {quant::Storage::kNf4, quant::Storage::kInt8})
    for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
      Model model =
          load_model(temp.path().string(), {dtype, torch::kCPU, {.storage = storage, .quantize_embeddings = true}})
              .model;
      const input::Batch batch = test::tiny_batch();
      EXPECT_EQ(model->encode(batch).rows.scalar_type(), dtype);
      const Tensor hidden = model->hidden_states(batch);
      EXPECT_EQ(hidden.scalar_type(), dtype);
      EXPECT_TRUE(hidden.isfinite().all().item<bool>());
      EXPECT_EQ(model->output_embedding()->storage(), "int8");
    }
}

TEST(QuantizedModel, EmbeddingsAndTheTiedHeadAreThoseOfTheDequantizedTable) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  Model coded =
      load_model(temp.path().string(), {.dtype = torch::kFloat, .storage = {.quantize_embeddings = true}}).model;
  Model dense = load_model(temp.path().string(), {.dtype = torch::kFloat}).model;
  auto& table = dense->model->language_model->embed_tokens->weight;
  const Tensor exact = table->dequantize(torch::kFloat), rounded = coded->output_embedding()->dequantize(torch::kFloat);
  EXPECT_FALSE(torch::equal(exact, rounded));
  table = quant::dense_weight(rounded, "rounded");
  const input::Batch batch = test::tiny_batch();
  const auto logits = [&](Model& model) { return model->logits(model->hidden_states(batch).flatten(0, 1)); };
  EXPECT_TRUE(torch::allclose(logits(coded), logits(dense), 1e-4, 1e-5));
}

TEST(QuantizedModel, SkippedModulesStayDense) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  // A start, in the spelling of the file, and an end, in the canonical one.
  const std::vector<std::string> skip{"model.vision_tower", "self_attn.q_proj.linear", "gate_proj"};
  Model model =
      load_model(temp.path().string(), {.dtype = torch::kFloat, .storage = {quant::Storage::kNf4, true, skip}}).model;
  std::int64_t dense = 0, coded = 0;
  for (const auto& item : model->named_modules()) {
    const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get());
    if (linear == nullptr) continue;
    const std::string& name = item.key();
    const bool skipped = name.starts_with("model.vision_tower.") || name.ends_with("gate_proj") ||
                         (name.starts_with("model.audio_tower.") && name.ends_with("self_attn.q_proj"));
    EXPECT_EQ(linear->weight->storage(), skipped ? "float32" : "nf4") << name;
    ++(skipped ? dense : coded);
  }
  EXPECT_GT(dense, 16);
  EXPECT_GT(coded, 16);
}

}  // namespace
}  // namespace bezel::gemma4
