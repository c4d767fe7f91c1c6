// What an update asks of a device: few copies, and hardly a wait.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/weight_site.h"
#include "bezel/train/cost_model.h"
#include "bezel/train/objective.h"
#include "bezel/train/trainer.h"
#include "support/simulated_device.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

using simulated::kDevice;
using torch::Tensor;

class UpdateOnDevice : public testing::Test {
 protected:
  explicit UpdateOnDevice(const std::string& config = test::tiny_config_text()) {
    test::write_tiny_checkpoint(folder_.path().string(), true, config);
    lora_.rank = 8;
    lora_.towers = {lora::Tower::kLanguage, lora::Tower::kVision, lora::Tower::kAudio};
    model_ = gemma4::load_model(folder_.path().string(), {torch::kFloat, kDevice}).model;
    model_->train();
  }

  Trainer trainer() {
    torch::manual_seed(5);
    selection_ = lora::select_targets(*model_, lora_);
    lora::attach(selection_, lora_);
    objective_ = std::make_unique<SupervisedObjective>(model_, kDevice);
    TrainerOptions options;
    options.total_steps = 10;
    options.learning_rate = [](std::int64_t) { return 1e-3; };
    return Trainer(*model_, selection_, *objective_, std::move(options));
  }

  // Counts of update `n`, after those before it.
  simulated::Counts counts_of(std::int64_t n, const std::vector<data::Batch>& batches) {
    Trainer run = trainer();
    for (std::int64_t step = 0; step < n; ++step) run.step(step, batches);
    simulated::reset_counts();
    const StepResult result = run.step(n, batches);
    EXPECT_FALSE(result.skipped);
    EXPECT_TRUE(std::isfinite(result.loss));
    return simulated::counts();
  }

  test::TempFolder folder_;
  lora::LoraConfig lora_;
  gemma4::Model model_{nullptr};
  lora::Selection selection_;
  std::unique_ptr<SupervisedObjective> objective_;
};

TEST_F(UpdateOnDevice, WaitsTwiceWhateverIsAccumulated) {
  const data::Batch batch = test::tiny_batch();
  const simulated::Counts one = counts_of(3, {batch});
  EXPECT_LE(one.synchronizations, 2) << testing::PrintToString(one.waits);
  EXPECT_EQ(one.host_to_device, 1) << "the batch, in one copy";
  EXPECT_GE(one.host_to_device_bytes, batch.num_bytes());
  const simulated::Counts three = counts_of(3, {batch, batch, batch});
  EXPECT_EQ(three.synchronizations, one.synchronizations);
  EXPECT_EQ(three.host_to_device, 3);
}

TEST_F(UpdateOnDevice, LooksAtGradientsOnceWhileTheyAreAudited) {
  const simulated::Counts first = counts_of(0, {test::tiny_batch()});
  EXPECT_LE(first.synchronizations, 3) << testing::PrintToString(first.waits);
}

class MixtureOnDevice : public UpdateOnDevice {
 protected:
  MixtureOnDevice() : UpdateOnDevice(test::tiny_mixture_text()) {}
};

TEST_F(MixtureOnDevice, NeverReadsBackWhereRowsGo) {
  lora_.towers = {lora::Tower::kLanguage};
  lora_.target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  const simulated::Counts counts = counts_of(3, {test::tiny_batch()});
  EXPECT_LE(counts.synchronizations, 2) << testing::PrintToString(counts.waits);
}

TEST(MemoryOnDevice, HoldsEveryMatrixButEmbeddingsThatStayOnTheHost) {
  gemma4::Model model = gemma4::meta_model(test::tiny_config(), torch::kFloat);
  RunShape shape{.on_device = true};
  const MemoryNeed all = memory_need(model, 0, shape);
  std::int64_t matrices = 0;
  for (const nn::WeightSite& site : nn::weight_sites(*model)) {
    std::int64_t elements = 1;
    for (const std::int64_t size : site.slot->shape) elements *= size;
    matrices += 4 * elements;
  }
  EXPECT_EQ(all.weights, matrices);
  EXPECT_EQ(all.host_tables, 0);
  shape.embeddings_on_host = true;
  const MemoryNeed fewer = memory_need(model, 0, shape);
  EXPECT_EQ(fewer.host_tables, 4 * 64 * 4 * 4) << "64 rows of 4 layers' 4 columns";
  EXPECT_EQ(fewer.weights + fewer.host_tables, all.weights);
  EXPECT_EQ(fewer.resident() + fewer.host_tables, all.resident());
}

}  // namespace
}  // namespace bezel::train
