#include "bezel/lora/tables.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/lora/audit.h"
#include "bezel/lora/targets.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::lora {
namespace {

using test::says;
using torch::Tensor;

class TableTargets : public testing::Test {
 protected:
  TableTargets() {
    test::write_tiny_checkpoint(checkpoint.path().string());
    model = gemma4::load_model(checkpoint.path().string(), {torch::kFloat, torch::kCPU}).model;
  }

  std::string refusal(const LoraConfig& config) {
    try {
      select_targets(*model, config);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      return error.what();
    }
    return "";
  }

  Tensor logits() {
    const at::NoGradGuard no_grad;
    return model->logits(model->hidden_states(test::tiny_batch()).flatten(0, 1));
  }

  test::TempFolder checkpoint;
  gemma4::Model model{nullptr};
};

TEST_F(TableTargets, BeginAsTheBaseInEveryForm) {
  const Tensor base = logits();
  LoraConfig config{.rank = 2, .alpha = 4};
  config.target_modules = ModulePattern::from_names({"q_proj", "embed_tokens", "lm_head"});
  LoraConfig rows{.rank = 2, .alpha = 4};
  rows.trainable_token_indices = {{"embed_tokens", {5, 3}}};
  LoraConfig whole{.rank = 2, .alpha = 4};
  whole.modules_to_save = {"embed_tokens", "lm_head"};
  for (const LoraConfig& one : {config, rows, whole}) {
    Selection selection = select_targets(*model, one);
    attach(selection, one);
    EXPECT_FALSE(selection.tables.empty());
    EXPECT_LT((logits() - base).abs().max().item<float>(), 1e-5f);
    for (const auto& [name, tensor] : selection.named_tensors()) {
      EXPECT_TRUE(tensor.requires_grad()) << name;
      const at::NoGradGuard no_grad;
      tensor.add_(0.3);
    }
    EXPECT_GT((logits() - base).abs().max().item<float>(), 1e-2f);
    {
      const ScopedAdapterDisable aside(selection);
      EXPECT_TRUE(torch::equal(logits(), base));
    }
    EXPECT_GT((logits() - base).abs().max().item<float>(), 1e-2f);
    detach_all(*model);
    EXPECT_TRUE(torch::equal(logits(), base));
  }
}

TEST_F(TableTargets, TiedRowsAreOneTensorOfBoth) {
  LoraConfig config{.rank = 2, .alpha = 4};
  config.trainable_token_indices = {{"embed_tokens", {5, 3}}, {"lm_head", {5, 3}}};
  Selection selection = select_targets(*model, config);
  attach(selection, config);
  ASSERT_EQ(selection.tables.size(), 1u);
  EXPECT_EQ(model->model->language_model->embed_tokens->trained, model->trained_head->table());
  EXPECT_EQ(attached_tables(*model).size(), 1u);
  const std::string key = "base_model.model.model.language_model.embed_tokens.token_adapter.trainable_tokens_delta";
  EXPECT_EQ(selection.named_tensors().back().first, key);
  EXPECT_EQ(selection.tables[0].parameters(), 2 * selection.tables[0].shape[1]);
  EXPECT_EQ(selection.counts()[0].parameters, selection.parameters());
}

TEST_F(TableTargets, RefusesWhatMeansNothingByName) {
  LoraConfig config;
  config.modules_to_save = {"router"};
  EXPECT_TRUE(says(refusal(config), "modules_to_save")) << refusal(config);
  config.modules_to_save = {"embed_tokens", "embed_tokens"};
  EXPECT_TRUE(says(refusal(config), "two ways"));
  config.modules_to_save = {"lm_head"};
  config.trainable_token_indices = {{"embed_tokens", {3}}};
  EXPECT_TRUE(says(refusal(config), "two ways"));
  config.modules_to_save = {};
  config.trainable_token_indices = {{"embed_tokens", {}}};
  EXPECT_TRUE(says(refusal(config), "no token"));
  config.trainable_token_indices = {{"embed_tokens", {3, 3}}};
  EXPECT_TRUE(says(refusal(config), "given twice"));
  config.trainable_token_indices = {{"embed_tokens", {1 << 20}}};
  EXPECT_TRUE(says(refusal(config), "outside"));
  config.trainable_token_indices = {{"lm_head", {3}}};
  EXPECT_TRUE(says(refusal(config), "tied"));
  config.trainable_token_indices = {};
  config.target_modules = ModulePattern::from_names({"q_proj", "embed_tokens"});
  config.use_dora = true;
  EXPECT_TRUE(says(refusal(config), "use_dora"));
  config.use_dora = false;
  config.target_modules = ModulePattern::from_names({"embed_tokens_per_layer"});
  EXPECT_TRUE(says(refusal(config), "embedding table"));
}

TEST_F(TableTargets, TheAuditWatchesThem) {
  LoraConfig config{.rank = 2, .alpha = 4};
  config.target_modules = ModulePattern::from_names({"embed_tokens"});
  Selection selection = select_targets(*model, config);
  attach(selection, config);
  GradientAudit audit(selection);
  const auto& table = *selection.tables[0].table;
  table.a.mutable_grad() = at::zeros_like(table.a);
  EXPECT_THROW(audit.check(1), Error);  // B is not zero, so A learns at once
  table.a.mutable_grad() = at::ones_like(table.a);
  table.b.mutable_grad() = at::zeros_like(table.b);
  EXPECT_NO_THROW(audit.check(1));
  EXPECT_FALSE(audit.done());
  {
    const at::NoGradGuard no_grad;
    table.a.fill_(0.1);
  }
  EXPECT_THROW(audit.check(2), Error);
  table.b.mutable_grad() = at::ones_like(table.b);
  EXPECT_NO_THROW(audit.check(2));
  EXPECT_TRUE(audit.done());
}

TEST(FirstFactors, AreThoseOfPeft) {
  torch::manual_seed(6);
  const auto options = torch::TensorOptions().dtype(torch::kFloat);
  const auto [a, b] = first_factors(8, 4000, 50, "gaussian", options);
  EXPECT_NEAR(a.std().item<double>(), 1.0 / 8, 2e-3);
  EXPECT_NEAR(a.mean().item<double>(), 0.0, 2e-3);
  EXPECT_EQ(b.abs().sum().item<float>(), 0.0f);
  const auto [a1, b1] = first_factors(8, 400, 50, "true", options);
  EXPECT_LE(a1.abs().max().item<double>(), 1.0 / 20);
  EXPECT_NEAR(a1.std().item<double>(), 1.0 / 20 / std::sqrt(3.0), 1e-3);
  EXPECT_EQ(b1.abs().sum().item<float>(), 0.0f);
  const auto [a2, b2] = first_factors(8, 400, 500, "false", options);
  EXPECT_NEAR(b2.std().item<double>(), 1.0 / std::sqrt(8.0) / std::sqrt(3.0), 1e-2);
  // Rows of one orthogonal matrix apart: their product is zero, and neither of them is.
  const auto [a3, b3] = first_factors(8, 400, 500, "orthogonal", options);
  EXPECT_EQ(a3.sizes(), (std::vector<std::int64_t>{8, 400}));
  EXPECT_EQ(b3.sizes(), (std::vector<std::int64_t>{500, 8}));
  EXPECT_LT(b3.mm(a3).abs().max().item<double>(), 1e-6);
  EXPECT_NEAR(a3.norm().item<double>(), std::sqrt(400.0 * 4) / 10, 0.3);
  EXPECT_NEAR(b3.norm().item<double>(), std::sqrt(500.0 * 4) / 10, 0.3);
}

}  // namespace
}  // namespace bezel::lora
