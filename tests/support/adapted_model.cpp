#include "support/adapted_model.h"

#include <cmath>
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/gemma4/load.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/weight_site.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::test {

using torch::Tensor;

gemma4::Model adapted_model(double dropout, bool bidirectional) {
  const TempFolder temp;
  write_tiny_checkpoint(temp.path().string());
  if (bidirectional) {
    std::string config = tiny_config_text();
    const std::string text = R"("model_type": "gemma4_text",)";
    config.insert(config.find(text), R"("use_bidirectional_attention": "vision", )");
    write_bytes(temp / "config.json", config);
  }
  gemma4::Model model = gemma4::load_model(temp.path().string(), {torch::kFloat, torch::kCPU}).model;
  lora::LoraConfig config;
  config.rank = 3;
  config.dropout = dropout;
  config.towers = {lora::Tower::kLanguage, lora::Tower::kVision, lora::Tower::kAudio};
  torch::manual_seed(5);
  lora::Selection selection = lora::select_targets(*model, config);
  lora::attach(selection, config);
  const at::NoGradGuard no_grad;
  for (const Tensor& tensor : nn::adapter_tensors(*model)) tensor.normal_(0.0, 0.05);
  model->train();
  return model;
}

std::vector<Tensor> gradients(gemma4::Model& model, const Tensor& loss) {
  for (const Tensor& tensor : nn::adapter_tensors(*model)) tensor.mutable_grad() = Tensor();
  loss.backward();
  std::vector<Tensor> found{loss.detach()};
  for (const Tensor& tensor : nn::adapter_tensors(*model)) {
    EXPECT_TRUE(tensor.grad().defined());
    found.push_back(tensor.grad().clone());
  }
  return found;
}

void expect_close(const std::vector<Tensor>& got, const std::vector<Tensor>& wanted, double relative) {
  ASSERT_EQ(got.size(), wanted.size());
  double all_errors = 0.0, all = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = (got[i] - wanted[i]).norm().item<double>(), size = wanted[i].norm().item<double>();
    EXPECT_GT(size, 0.0) << i;
    EXPECT_LE(error, 100 * relative * size) << i;
    all_errors += error * error;
    all += size * size;
  }
  EXPECT_LE(std::sqrt(all_errors), relative * std::sqrt(all));
}

}  // namespace bezel::test
