#include "bezel/lora/norms.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/audit.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/rms_norm.h"
#include "bezel/nn/weight_site.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

class Norms : public testing::Test {
 protected:
  Norms() {
    test::write_tiny_checkpoint(checkpoint.path().string());
    model = gemma4::load_model(checkpoint.path().string(), {torch::kFloat, torch::kCPU}).model;
  }

  Selection attached(const std::vector<std::string>& names) {
    LoraConfig config{.rank = 2, .alpha = 4};
    config.modules_to_save = names;
    Selection selection = select_targets(*model, config);
    attach(selection, config);
    return selection;
  }

  Tensor logits() {
    const at::NoGradGuard no_grad;
    return model->logits(model->hidden_states(test::tiny_batch()).flatten(0, 1));
  }

  test::TempFolder checkpoint;
  gemma4::Model model{nullptr};
};

TEST_F(Norms, AreNamedAsPeftReadsNames) {
  EXPECT_TRUE(is_norm_called("model.language_model.layers.0.input_layernorm", "norm"));
  EXPECT_TRUE(is_norm_called("model.language_model.layers.0.input_layernorm", "layers.0.input_layernorm"));
  EXPECT_FALSE(is_norm_called("model.language_model.layers.0.input_layernorm", "layers.1.input_layernorm"));
  EXPECT_FALSE(is_norm_called("model.language_model.norm", ""));
  for (const NormTarget& norm : select_norms(*model, {"norm"})) EXPECT_TRUE(norm.is_of_decoder()) << norm.name;
  EXPECT_EQ(select_norms(*model, {"language_model.norm"}).size(), 1u);
  LoraConfig config;
  config.modules_to_save = {"input_layernom"};
  EXPECT_THROW(select_targets(*model, config), Error);
}

TEST_F(Norms, BeginAsTheBaseAndGoAgain) {
  const Tensor base = logits();
  const Selection selection = attached({"norm"});
  ASSERT_FALSE(selection.norms.empty());
  EXPECT_TRUE(at::equal(logits(), base));
  {
    const at::NoGradGuard no_grad;
    for (const NormTarget& norm : selection.norms) Tensor(norm.weight).mul_(1.5);
  }
  const Tensor changed = logits();
  EXPECT_FALSE(at::allclose(changed, base));
  {
    const ScopedAdapterDisable off(selection);
    EXPECT_TRUE(at::equal(logits(), base));
  }
  EXPECT_TRUE(at::equal(logits(), changed));
  detach_all(*model);
  EXPECT_TRUE(at::equal(logits(), base));
}

TEST_F(Norms, AreCountedSavedAndRead) {
  const Selection selection = attached({"input_layernorm", "language_model.norm"});
  std::int64_t sum = 0;
  for (const NormTarget& norm : selection.norms) sum += norm.parameters();
  const Selection plain = [&] {
    detach_all(*model);
    return attached({});
  }();
  EXPECT_EQ(selection.parameters() - plain.parameters(), sum);
  Selection trained = attached({"input_layernorm", "language_model.norm"});
  {
    const at::NoGradGuard no_grad;
    for (const NormTarget& norm : trained.norms) Tensor(norm.weight).add_(0.25);
  }
  const Tensor wanted = logits();
  const test::TempFolder out;
  LoraConfig config{.rank = 2, .alpha = 4};
  save_adapter(out.path().string(), trained, config, {});
  detach_all(*model);
  const LoadedAdapter loaded = load_adapter(*model, out.path().string());
  EXPECT_EQ(loaded.selection.norms.size(), trained.norms.size());
  EXPECT_TRUE(at::equal(logits(), wanted));
}

TEST_F(Norms, OnesThatGetNoGradientAreFound) {
  const Selection selection = attached({"language_model.norm"});
  GradientAudit audit(selection);
  for (const auto& [name, tensor] : selection.named_tensors()) Tensor(tensor).mutable_grad() = at::ones_like(tensor);
  EXPECT_NO_THROW(audit.check(1));
  GradientAudit again(selection);
  Tensor(selection.norms[0].weight).mutable_grad() = at::zeros_like(selection.norms[0].weight);
  EXPECT_THROW(again.check(1), Error);
}

TEST(RmsNormWeight, GradientsAreAutogradsOfTheFormula) {
  nn::RmsNorm norm(6, 1e-6, nn::NormForm{1.0, 0.25});
  const Tensor stored = at::randn({6});
  norm->slots().front().assign(stored);
  const Tensor x = at::randn({3, 4, 6}).requires_grad_(), residual = at::randn({3, 4, 6}).requires_grad_();
  norm->trained = stored.clone().requires_grad_();
  (norm->add_to(residual, x) * at::arange(6)).square().sum().backward();
  const Tensor x2 = x.detach().clone().requires_grad_(), w2 = stored.clone().requires_grad_();
  const Tensor normed = x2 * at::rsqrt(x2.square().mean(-1, true) + 1e-6) * ((w2 + 1.0) * 0.25);
  ((residual.detach() + normed) * at::arange(6)).square().sum().backward();
  EXPECT_TRUE(at::allclose(norm->trained.grad(), w2.grad(), 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(x.grad(), x2.grad(), 1e-4, 1e-5));
  // A layer that makes the norm again in its backward pass takes it as it is where the weight is trained.
  const nn::FusedInput input = norm->input(x);
  EXPECT_FALSE(input.is_made());
  EXPECT_TRUE(at::allclose(input.value(), norm(x)));
}

}  // namespace
}  // namespace bezel::lora
