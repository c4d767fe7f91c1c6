#include "bezel/train/cost_model.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>
#include <gtest/gtest.h>

#include "bezel/gemma4/load.h"
#include "bezel/nn/module.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

// Bytes of the matrices of a loaded model, without the tables that are read row by row.
std::int64_t loaded_bytes(const std::string& folder, const gemma4::LoadOptions& options) {
  gemma4::Model model = gemma4::load_model(folder, options).model;
  std::int64_t bytes = 0;
  for (const auto& item : model->named_modules()) {
    if (item.key() == "model.language_model.embed_tokens_per_layer") continue;
    if (const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get())) bytes += linear->weight->bytes();
    if (item.key() == "model.language_model.embed_tokens") bytes += model->output_embedding()->bytes();
  }
  return bytes;
}

TEST(MemoryNeed, WeightsAreThoseOfALoadedModel) {
  const test::TempFolder temp;
  test::write_tiny_checkpoint(temp.path().string());
  for (const auto storage : {quant::Storage::kDense, quant::Storage::kNf4, quant::Storage::kInt8}) {
    const gemma4::LoadOptions options{.dtype = torch::kBFloat16, .storage = {.storage = storage, .skip = {"o_proj"}}};
    gemma4::Model shapes = gemma4::meta_model(test::tiny_config(), options.dtype);
    const RunShape run{.storage = options.storage, .media = {{true, true}}};
    EXPECT_EQ(memory_need(shapes, 0, run).weights, loaded_bytes(temp.path().string(), options))
        << static_cast<int>(storage);
  }
}

TEST(MemoryNeed, TowersWithoutDataAndRecomputationTakeLess) {
  gemma4::Model model = gemma4::meta_model(test::tiny_config(), torch::kBFloat16);
  RunShape run{.media = {{true, true}}, .largest = {.tokens = 100, .encoder_rows = {{90, 20}}}};
  const MemoryNeed all = memory_need(model, 1000, run);
  EXPECT_EQ(all.adapters, 16'000);
  run.media[input::MediaKind::kImage] = false;
  const MemoryNeed without = memory_need(model, 1000, run);
  std::int64_t vision = 0;
  for (const auto& item : model->named_modules())
    if (const auto* module = dynamic_cast<const nn::Module*>(item.value().get()); module != nullptr)
      for (const nn::Slot& slot : module->slots())
        if (slot.kind == nn::SlotKind::kMatrix && item.key().find("vision") != std::string::npos)
          vision += 2 * c10::multiply_integers(slot.shape);
  EXPECT_GT(vision, 0);
  EXPECT_EQ(all.weights - without.weights, vision);
  run.recompute = true;
  EXPECT_LT(memory_need(model, 1000, run).activations, without.activations / 2);
}

TEST(TrainingFlops, AreTwoForEachProductAndPass) {
  gemma4::Model model = gemma4::meta_model(test::tiny_config(), torch::kFloat);
  lora::Selection selection =
      lora::select_targets(*model, {.rank = 3, .target_modules = lora::ModulePattern::from_names({"q_proj"})});
  const Work work{.samples = 1, .tokens = 1000, .label_tokens = 1000};
  const double plain = training_flops(model, {}, work, false), adapted = training_flops(model, selection, work, false);
  EXPECT_DOUBLE_EQ(adapted - plain, 6.0 * 1000 * static_cast<double>(selection.parameters()));
  // A third pass over everything but the output matrix.
  const double head =
      4.0 * 1000 * static_cast<double>(test::tiny_config().text.vocab_size * test::tiny_config().text.hidden_size);
  EXPECT_NEAR(training_flops(model, {}, work, true) - head, 1.5 * (plain - head), 1e-6 * plain);
  // Images go forward only where the tower is not adapted.
  const Work image{.samples = 1, .encoder_rows = {{50, 0}}};
  double products = 0;
  for (const auto& item : model->named_modules())
    if (const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get());
        linear != nullptr && item.key().find("vision_tower") != std::string::npos)
      products += static_cast<double>(linear->in_features * linear->out_features);
  const double projector = training_flops(model, {}, image, false) - 2 * 50 * products;
  EXPECT_GE(projector, 0);
  EXPECT_LT(projector, 50 * products);
}

TEST(ProductSpeed, IsANumberThatAMachineCanReach) {
  const double speed = product_flops_per_s(torch::kFloat);
  EXPECT_GT(speed, 1e8);
  EXPECT_LT(speed, 1e14);
}

}  // namespace
}  // namespace bezel::train
