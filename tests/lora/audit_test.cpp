#include "bezel/lora/audit.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "lora/tiny_linears.h"
#include "support/temp_folder.h"

namespace bezel::lora {
namespace {

using test::error_of;
using test::says;

const std::string kQ0 = "model.language_model.layers.0.self_attn.q_proj";
const std::string kQ1 = "model.language_model.layers.1.self_attn.q_proj";
const std::string kVision = "model.vision_tower.encoder.layers.0.self_attn.q_proj";

class Audit : public testing::Test {
 protected:
  Audit() {
    config = {.rank = 2,
              .alpha = 4,
              .towers = {Tower::kLanguage, Tower::kVision},
              .target_modules = ModulePattern::from_names({"q_proj"})};
    selection = select_targets(model, config);
    attach(selection, config);
  }

  void backward(const std::vector<std::string>& layers) {
    torch::Tensor loss = torch::zeros({});
    for (const std::string& name : layers) loss = loss + model.layer(name)(torch::ones({3, 6})).square().sum();
    loss.backward();
  }

  void move_and_clear() {
    const torch::NoGradGuard no_grad;
    for (torch::Tensor tensor : selection.tensors()) {
      if (tensor.grad().defined()) tensor.sub_(tensor.grad(), 0.01);
      tensor.mutable_grad().reset();
    }
  }

  test::TinyLinears model;
  LoraConfig config;
  Selection selection;
};

TEST_F(Audit, TowersThatTookNoPartWait) {
  GradientAudit audit(selection);
  backward({kQ0, kQ1});
  EXPECT_NO_THROW(audit.check(1));
  move_and_clear();
  backward({kQ0, kQ1});
  EXPECT_NO_THROW(audit.check(2));
  EXPECT_FALSE(audit.done());
  move_and_clear();
  backward({kVision});
  EXPECT_NO_THROW(audit.check(3));
  move_and_clear();
  backward({kVision});
  EXPECT_NO_THROW(audit.check(4));
  EXPECT_TRUE(audit.done());
}

TEST_F(Audit, NamesALayerThatTheLossDoesNotReach) {
  GradientAudit audit(selection);
  backward({kQ0});
  const std::string message = error_of([&] { audit.check(1); });
  EXPECT_TRUE(says(message, kQ1));
  EXPECT_EQ(message.find(kQ0), std::string::npos);
  EXPECT_EQ(message.find(kVision), std::string::npos);
}

TEST_F(Audit, ZeroGradientCountsAsNone) {
  GradientAudit audit(selection);
  backward({kQ0, kQ1});
  model.layer(kQ0)->adapter->b.mutable_grad().zero_();
  EXPECT_TRUE(says(error_of([&] { audit.check(1); }), kQ0 + ".lora_B"));
}

TEST_F(Audit, AIsLookedAtOnceBHasMoved) {
  GradientAudit audit(selection);
  backward({kQ0, kQ1});
  audit.check(1);  // every gradient on A is zero here, as it must be
  move_and_clear();
  backward({kQ0, kQ1});
  model.layer(kQ1)->adapter->a.mutable_grad().zero_();
  EXPECT_TRUE(says(error_of([&] { audit.check(2); }), kQ1 + ".lora_A"));
}

TEST_F(Audit, WarmUpAtRateZeroLeavesAForLater) {
  GradientAudit audit(selection);
  for (int step = 1; step <= 2; ++step) {
    backward({kQ0, kQ1});
    EXPECT_NO_THROW(audit.check(step));
    for (const torch::Tensor& tensor : selection.tensors()) tensor.mutable_grad().reset();
  }
  EXPECT_FALSE(audit.done());
}

}  // namespace
}  // namespace bezel::lora
