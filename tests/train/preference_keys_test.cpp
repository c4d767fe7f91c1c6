#include "bezel/train/preference_keys.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

TrainConfig parse(const std::string& yaml, const std::vector<std::string>& flags = {}) {
  return parse_train_config(yaml, "c.yaml", parse_overrides(flags), /*require_paths=*/false);
}

PreferenceConfig preference(const std::string& yaml) { return parse(yaml).preference; }

std::string refusal(const std::string& yaml) {
  return test::error_of([&] { parse(yaml); });
}

using Texts = std::vector<std::string>;
using Numbers = std::vector<double>;

TEST(PreferenceKeys, OtherToolsSpellingsMeanTheSame) {
  for (const char* yaml :
       {"objective: dpo\ndpo_loss: ipo\nbeta: 0.3\n", "rl: ipo\nrl_beta: 0.3\n",
        "stage: dpo\npref_loss: ipo\npref_beta: 0.3\n", "objective: dpo\nloss_type: [ipo]\nbeta: 0.3\n"}) {
    const PreferenceConfig read = preference(yaml);
    EXPECT_EQ(read.objective, ObjectiveKind::kDpo) << yaml;
    EXPECT_EQ(read.dpo_loss, Texts{"ipo"}) << yaml;
    EXPECT_EQ(read.beta, 0.3) << yaml;
  }
  EXPECT_EQ(preference("stage: dpo\npref_loss: simpo\nsimpo_gamma: 1\n").objective, ObjectiveKind::kSimpo);
  EXPECT_EQ(preference("stage: dpo\npref_loss: orpo\n").objective, ObjectiveKind::kOrpo);
  EXPECT_EQ(preference("objective: kto\nloss_type: kto\nmicro_batch_size: 2\n").dpo_loss, Texts{"sigmoid"});
  EXPECT_EQ(preference("rl: kto\nkto_desirable_weight: 2\nmicro_batch_size: 4\n").desirable_weight, 2.0);
  EXPECT_EQ(preference("loss_type: nll\nrl:\nstage: sft\n").objective, ObjectiveKind::kSft);
}

TEST(PreferenceKeys, RpoAlphaIsOneMoreLoss) {
  const PreferenceConfig rpo = preference("objective: dpo\nrpo_alpha: 0.5\n");
  EXPECT_EQ(rpo.dpo_loss, (Texts{"sigmoid", "sft"}));
  EXPECT_EQ(rpo.loss_weights, (Numbers{1.0, 0.5}));
  const PreferenceConfig list =
      preference("objective: dpo\nloss_type: [hinge, ipo]\nloss_weights: [2, 3]\npref_ftx: 4\n");
  EXPECT_EQ(list.dpo_loss, (Texts{"hinge", "ipo", "sft"}));
  EXPECT_EQ(list.loss_weights, (Numbers{2.0, 3.0, 4.0}));
  EXPECT_EQ(preference("stage: dpo\npref_ftx: 0.0\n").dpo_loss, Texts{"sigmoid"});
}

TEST(PreferenceKeys, TheResolvedConfigReadsBackEqual) {
  for (const char* yaml : {"", "objective: dpo\nrpo_alpha: 0.5\nlabel_smoothing: 0.1\n",
                           "objective: simpo\nbeta: 2\nsimpo_gamma: 1\ncpo_alpha: 0.5\nlearning_rate: 1e-5\n",
                           "objective: kto\nmicro_batch_size: 2\nundesirable_weight: 1.5\n"}) {
    const std::string resolved = to_yaml(parse(yaml));
    EXPECT_EQ(to_yaml(parse(resolved)), resolved) << yaml;
  }
}

TEST(PreferenceKeys, PreferencesHaveALowerLearningRate) {
  EXPECT_EQ(parse("").learning_rate, 2e-4);
  EXPECT_EQ(parse("objective: orpo\n").learning_rate, kPreferenceLearningRate);
  EXPECT_EQ(parse("objective: dpo\n", {"--lr", "2e-4"}).learning_rate, 2e-4);
}

TEST(PreferenceKeys, WhatTheObjectiveDoesNotUseIsRefused) {
  EXPECT_TRUE(
      test::says(refusal("beta: 0.3\n"), "key 'beta': objective: sft does not use it; write one of objective: dpo"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nsimpo_gamma: 1\n"), "key 'simpo_gamma'"));
  EXPECT_TRUE(
      test::says(refusal("objective: kto\nmicro_batch_size: 2\nlabel_smoothing: 0.1\n"), "key 'label_smoothing'"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nloss_type: ipo\nlabel_smoothing: 0.1\n"), "dpo_loss: sigmoid"));
  EXPECT_TRUE(test::says(refusal("loss_type: hinge\n"), "key 'dpo_loss': objective: sft"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\ntrain_on_inputs: true\n"), "key 'train_on_inputs'"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\npacking: true\n"), "key 'packing'"));
  EXPECT_TRUE(test::says(refusal("objective: kto\n"), "key 'micro_batch_size'"));
}

TEST(PreferenceKeys, ValuesThatMakeNoSenseAreRefused) {
  EXPECT_TRUE(test::says(refusal("objective: grpo\n"), "key 'objective': grpo is not built"));
  EXPECT_TRUE(test::says(refusal("rl: other\n"), "sft, dpo, orpo, simpo or kto"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nloss_type: exo_pair\n"), "sigmoid, ipo, hinge or sft"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\ndpo_loss: sft\n"), "write objective: sft"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nloss_weights: [1, 2]\n"), "key 'loss_weights': has 2 numbers"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nbeta: 0\n"), "key 'beta'"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nlabel_smoothing: 0.7\n"), "key 'label_smoothing'"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nsync_ref_model: true\n"), "key 'sync_ref_model'"));
  EXPECT_TRUE(test::says(refusal("objective: dpo\nf_divergence_type: js_divergence\n"), "key 'f_divergence_type'"));
  EXPECT_TRUE(refusal("objective: dpo\nf_divergence_type: reverse_kl\nprecompute_ref_log_probs: true\n").empty());
}

}  // namespace
}  // namespace bezel::train
