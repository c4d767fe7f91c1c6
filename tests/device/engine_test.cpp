// The engine on the simulated device: every result is the CPU's, to rounding.
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/lora/tables.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/random_keys.h"
#include "bezel/nn/weight_site.h"
#include "bezel/train/forward.h"
#include "support/adapted_model.h"
#include "support/simulated_device.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::train {
namespace {

using simulated::kDevice;
using torch::Tensor;

// Relative, of all gradients together. The kernels are the CPU's, but attention and the sums over experts and adapters
// are other ones, and this model of random weights behind narrow clip bounds makes their rounding (1e-7) that large.
constexpr double kRounding = 3e-4;

struct Case {
  const char* name = "";
  quant::StorageOptions storage{};
  lora::LoraConfig lora{};
  bool recompute = false;
  bool mixture = false;
};

lora::LoraConfig everywhere() {
  lora::LoraConfig config;
  config.rank = 3;
  config.towers = {lora::Tower::kLanguage, lora::Tower::kVision, lora::Tower::kAudio};
  return config;
}

std::vector<Case> cases() {
  std::vector<Case> all(11, {.lora = everywhere()});
  all[0].name = "dense";
  all[1].name = "nf4";
  all[1].storage.storage = quant::Storage::kNf4;
  all[2].name = "nf4_nested";
  all[2].storage = {.storage = quant::Storage::kNf4, .double_quant = true};
  all[3].name = "int8";
  all[3].storage.storage = quant::Storage::kInt8;
  all[4].name = "dora";
  all[4].lora.use_dora = true;
  all[5].name = "tables";
  all[5].lora.modules_to_save = {"embed_tokens"};
  all[6].name = "recompute";
  all[6].recompute = true;
  all[7].name = "dropout";
  all[7].lora.dropout = 0.3;
  all[8].name = "mixture";
  all[8].mixture = true;
  all[8].lora.target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  all[9] = all[8];
  all[9].name = "mixture_nf4_recompute";
  all[9].storage.storage = quant::Storage::kNf4;
  all[9].recompute = true;
  all[10].name = "rows";
  all[10].lora.trainable_token_indices = {{"embed_tokens", {5, 9, 11, 12}}};
  return all;
}

std::vector<Tensor> trained(gemma4::Model& model) {
  std::vector<Tensor> all = nn::adapter_tensors(*model);
  for (const lora::TableTarget& table : lora::attached_tables(*model))
    for (const auto& [name, tensor] : table.named_tensors(false)) all.push_back(tensor);
  return all;
}

class EngineOnDevice : public testing::TestWithParam<Case> {
 protected:
  EngineOnDevice() {
    test::write_tiny_checkpoint(folder_.path().string(), true,
                                GetParam().mixture ? test::tiny_mixture_text() : test::tiny_config_text());
  }

  gemma4::Model model_on(torch::Device device) {
    const Case& made = GetParam();
    gemma4::Model model = gemma4::load_model(folder_.path().string(), {torch::kFloat, device, made.storage}).model;
    torch::manual_seed(5);
    lora::Selection selection = lora::select_targets(*model, made.lora);
    lora::attach(selection, made.lora);
    torch::manual_seed(7);
    const at::NoGradGuard no_grad;
    for (const Tensor& tensor : trained(model)) tensor.add_((0.05 * torch::randn(tensor.sizes())).to(tensor.device()));
    model->set_recompute(made.recompute);
    model->train();
    return model;
  }

  // The loss and every gradient, on the CPU.
  std::vector<Tensor> step_on(torch::Device device) {
    gemma4::Model model = model_on(device);
    const input::Batch batch = test::tiny_batch().to(device);
    const nn::ScopedRandomKeys random(nn::RandomKeys::of_step(/*seed=*/9, /*update=*/0));
    const Tensor loss = mean_loss(model, batch);
    loss.backward();
    std::vector<Tensor> found{loss.detach().cpu()};
    for (const Tensor& tensor : trained(model)) {
      EXPECT_TRUE(tensor.grad().defined());
      EXPECT_EQ(tensor.grad().device(), device);
      found.push_back(tensor.grad().cpu());
    }
    return found;
  }

  test::TempFolder folder_;
};

TEST_P(EngineOnDevice, LossAndGradientsAreTheCpus) {
  test::expect_close(step_on(kDevice), step_on(torch::kCPU), kRounding);
}

INSTANTIATE_TEST_SUITE_P(All, EngineOnDevice, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace bezel::train
