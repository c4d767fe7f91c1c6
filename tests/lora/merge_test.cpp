#include "bezel/lora/merge.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/gemma4/quantize.h"
#include "bezel/io/tensor_io.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::lora {
namespace {

using test::error_of;
using test::says;
using torch::Tensor;

const std::string kVision = "model.vision_tower.encoder.layers.1.mlp.up_proj";
const std::string kText = "model.language_model.layers.0.self_attn.q_proj";

nn::Adapter random_adapter(const nn::LinearImpl& layer) {
  return {.a = torch::randn({3, layer.in_features}), .b = torch::randn({layer.out_features, 3}), .scale = 0.7};
}

/// A tiny checkpoint, loaded, with adapters on two layers.
struct Setting {
  explicit Setting(const std::string& checkpoint, bool adapt = true) : path(checkpoint) {
    loaded = gemma4::load_model(path, {.dtype = torch::kFloat});
    torch::manual_seed(5);
    for (const std::string& name : {kVision, kText})
      if (adapt) layer(name).adapter = random_adapter(layer(name));
  }
  nn::LinearImpl& layer(const std::string& name) {
    return dynamic_cast<nn::LinearImpl&>(*loaded.model->named_modules()[name]);
  }
  MergeReport merge(const std::string& output, const MergeOptions& options = {}) {
    return merge_checkpoint(*loaded.model, io::Checkpoint::open(path), output, options);
  }

  std::string path;
  gemma4::LoadedModel loaded;
};

TEST(AddUpdate, RoundsOnce) {
  torch::manual_seed(1);
  const Tensor base = torch::randn({3000, 1500}).to(torch::kBFloat16);  // two slices
  const nn::Adapter adapter{.a = torch::randn({4, 1500}), .b = torch::randn({3000, 4}), .scale = 0.5};
  const Tensor exact = base.to(torch::kDouble) + 0.5 * adapter.b.to(torch::kDouble).mm(adapter.a.to(torch::kDouble));
  EXPECT_LT((add_update(base, adapter, torch::kFloat) - exact).abs().max().item<double>(), 1e-5);
  // Half a step of bfloat16 and no more, but for sums that float32 puts on the other side of a middle.
  const Tensor error = (add_update(base, adapter, torch::kBFloat16).to(torch::kDouble) - exact).abs();
  EXPECT_TRUE((error <= exact.abs() * (1.0 / 256) + 1e-5).all().item<bool>());
}

TEST(Merge, ChangesTheAdaptedMatricesOnly) {
  const test::TempFolder folder;
  test::write_tiny_checkpoint(folder.path().string());
  Setting setting(folder.path().string());
  const MergeReport report = setting.merge(folder / "out");
  EXPECT_EQ(report.merged, 2);
  const auto before = io::load_safetensors(folder / "model.safetensors");
  const auto after = io::load_safetensors(folder / "out/model.safetensors");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : before) {
    ASSERT_TRUE(after.contains(name)) << name;
    if (name != kVision + ".linear.weight" && name != kText + ".weight") {
      EXPECT_TRUE(torch::equal(after.at(name), tensor)) << name;
      continue;
    }
    const nn::LinearImpl& layer = setting.layer(name[6] == 'v' ? kVision : kText);
    EXPECT_TRUE(torch::equal(after.at(name), tensor + layer.adapter->b.mm(layer.adapter->a).mul(0.7))) << name;
  }
}

TEST(Merge, WritesEveryFloatingTensorInTheDtypeAsked) {
  const test::TempFolder folder;
  test::write_tiny_checkpoint(folder.path().string());
  Setting setting(folder.path().string());
  setting.merge(folder / "out", {.dtype = torch::kBFloat16});
  const auto before = io::load_safetensors(folder / "model.safetensors");
  for (const auto& [name, tensor] : io::load_safetensors(folder / "out/model.safetensors")) {
    EXPECT_EQ(tensor.scalar_type(), torch::kBFloat16) << name;
    if (!name.starts_with(kVision) && !name.starts_with(kText)) {
      EXPECT_TRUE(torch::equal(tensor, before.at(name).to(torch::kBFloat16))) << name;
    }
  }
  EXPECT_EQ(io::read_json_file(folder / "out/config.json")["dtype"], "bfloat16");
}

TEST(Merge, ValuesThatAreNotFiniteAreRefusedByName) {
  const test::TempFolder folder;
  test::write_tiny_checkpoint(folder.path().string());
  Setting setting(folder.path().string());
  setting.layer(kText).adapter->scale = 1e38;
  EXPECT_TRUE(says(error_of([&] { setting.merge(folder / "out"); }), "'" + kText + ".weight': holds NaN or Inf"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(Merge, RequantizingNeedsCodesAndNoOtherDtype) {
  const test::TempFolder folder;
  test::write_tiny_checkpoint(folder.path().string());
  Setting setting(folder.path().string());
  EXPECT_TRUE(says(error_of([&] { setting.merge(folder / "out", {.requantize = true}); }), "is not quantized"));
  EXPECT_TRUE(says(error_of([&] { setting.merge(folder / "out", {.dtype = torch::kFloat, .requantize = true}); }),
                   "cannot go with --dtype"));
}

class MergeFromCodes : public testing::TestWithParam<quant::StorageOptions> {
 protected:
  void SetUp() override {
    test::write_tiny_checkpoint(folder.path().string());
    gemma4::quantize_checkpoint(folder.path().string(), folder / "codes", GetParam());
  }
  Tensor matrix(const std::string& checkpoint, const std::string& name) {
    return Setting(folder / checkpoint, false).layer(name).weight->dequantize(torch::kFloat);
  }
  Tensor wanted(Setting& setting, const std::string& name) {
    const nn::Adapter& adapter = *setting.layer(name).adapter;
    return matrix("codes", name) + adapter.b.mm(adapter.a).mul(adapter.scale);
  }

  test::TempFolder folder;
};

TEST_P(MergeFromCodes, LeavesDenseMatrices) {
  Setting setting(folder / "codes");
  const MergeReport report = setting.merge(folder / "out", {.from_codes = torch::kFloat});
  EXPECT_FALSE(io::read_json_file(folder / "out/config.json").contains("quantization_config"));
  for (const auto& [name, tensor] : io::load_safetensors(folder / "out/model.safetensors"))
    EXPECT_EQ(tensor.scalar_type(), torch::kFloat) << name;
  for (const std::string& name : {kVision, kText})
    EXPECT_TRUE(torch::equal(matrix("out", name), wanted(setting, name))) << name;
  const std::string other = "model.audio_tower.layers.0.self_attn.k_proj";
  EXPECT_TRUE(torch::equal(matrix("out", other), matrix("codes", other)));
  EXPECT_EQ(report.merged, 2);
  EXPECT_GT(report.from_codes, report.merged);
}

TEST_P(MergeFromCodes, RequantizesTheAdaptedMatricesOnly) {
  Setting setting(folder / "codes");
  const MergeReport report = setting.merge(folder / "out", {.requantize = true});
  EXPECT_EQ(report.requantized, 2);
  EXPECT_TRUE(io::read_json_file(folder / "out/config.json").contains("quantization_config"));
  const auto before = io::load_safetensors(folder / "codes/model.safetensors");
  const auto after = io::load_safetensors(folder / "out/model.safetensors");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : before) {
    if (name.starts_with(kVision) || name.starts_with(kText)) continue;
    EXPECT_TRUE(torch::equal(after.at(name), tensor)) << name;
  }
  double error = 0, size = 0;
  for (const std::string& name : {kVision, kText}) {
    const Tensor exact = wanted(setting, name);
    error += (matrix("out", name) - exact).square().sum().item<double>();
    size += exact.square().sum().item<double>();
  }
  EXPECT_NEAR(report.coding.error, std::sqrt(error), 1e-5);
  EXPECT_NEAR(report.coding.matrix, std::sqrt(size), 1e-5);
  EXPECT_GT(report.worst_error, 0.001);
  EXPECT_LT(report.worst_error, 0.15);
}

INSTANTIATE_TEST_SUITE_P(EveryForm, MergeFromCodes,
                         testing::Values(quant::StorageOptions{.storage = quant::Storage::kNf4},
                                         quant::StorageOptions{.storage = quant::Storage::kNf4, .double_quant = false},
                                         quant::StorageOptions{.storage = quant::Storage::kInt8}));

}  // namespace
}  // namespace bezel::lora
