#include "bezel/train/foreign_keys.h"

#include <set>

#include <gtest/gtest.h>

#include "bezel/train/config_binding.h"
#include "support/temp_folder.h"

namespace bezel::train {
namespace {

TrainConfig parse(const std::string& yaml, const std::vector<std::string>& flags = {}) {
  return parse_train_config(yaml, "c.yaml", parse_overrides(flags), false);
}

std::string refusal(const std::string& yaml) {
  return test::error_of([&] { parse(yaml); });
}

std::set<std::string> names_of(const ForeignKey& key) {
  std::set<std::string> names;
  std::istringstream list{std::string(key.names)};
  for (std::string name; list >> name;) names.insert(name);
  return names;
}

TEST(ForeignKeys, EveryNameIsListedOnceAndIsNoKeyOfBezel) {
  std::set<std::string> seen;
  for (const ForeignKey& key : foreign_keys()) {
    EXPECT_FALSE(key.advice.empty()) << key.names;
    for (const std::string& name : names_of(key)) {
      EXPECT_TRUE(seen.insert(name).second) << name;
      EXPECT_EQ(find_binding(name), nullptr) << name;
      EXPECT_EQ(find_foreign_key(name.ends_with('*') ? name.substr(0, name.size() - 1) + "x" : name), &key) << name;
    }
  }
}

TEST(ForeignKeys, WhatTouchesSpeedOrLoggingAloneIsListedInOneNote) {
  const TrainConfig config = parse(
      "flash_attention: true\nwandb_project: mine\nddp_timeout: 1\ndeepspeed: {stage: 2}\ntf32: false\n"
      "fsdp:\nspecial_tokens:\n",
      {"--logging-dir", "runs"});
  ASSERT_EQ(config.notes.size(), 1u);
  EXPECT_EQ(config.notes[0],
            "6 keys of other tools change nothing here (speed, memory, logging): flash_attention, wandb_project, "
            "ddp_timeout, deepspeed, tf32, logging_dir");
}

TEST(ForeignKeys, WhatWouldChangeWhatIsLearntIsRefusedAllAtOnceWithItsLine) {
  const std::string message = refusal(
      "seed: 1\nuse_badam: true\nfp16: true\npush_to_hub: true\nembedding_lr: 1e-5\nnonsense_key: 1\n"
      "pissa_init: true\nstage: ppo\n");
  for (const char* part :
       {"c.yaml:2: key 'use_badam'", "c.yaml:3: key 'fp16'", "bf16: true", "c.yaml:4: key 'push_to_hub'", "hf upload",
        "c.yaml:5: key 'embedding_lr'", "c.yaml:6: unknown key 'nonsense_key'", "c.yaml:7: key 'pissa_init'",
        "c.yaml:8: key 'stage'", "docs/preferences.md"})
    EXPECT_TRUE(test::says(message, part));
}

TEST(ForeignKeys, WhatIsOffOrTheSameHereIsAccepted) {
  const TrainConfig config = parse(
      "neftune_noise_alpha: 0\nfp16: 'false'\npush_to_hub: no\nearly_stopping_patience:\nbias: none\nstage: sft\n"
      "full_finetuning: false\nloftq_config: {}\nspecial_tokens: {pad_token: <pad>, eos_token: <turn|>}\n"
      "eot_tokens: [<turn|>]\nplugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]\n"
      "chat_template: gemma4\nbnb_4bit_quant_type: nf4\ninit_lora_weights: true\nmodel_revision: main\n");
  EXPECT_TRUE(config.notes.empty());
  EXPECT_TRUE(test::says(refusal("special_tokens: {pad_token: '<mine>'}\n"), "c.yaml:1: key 'special_tokens'"));
  EXPECT_TRUE(test::says(refusal("plugins: [axolotl.integrations.spectrum.SpectrumPlugin]\n"), "plugins"));
  EXPECT_TRUE(test::says(refusal("use_peft: false\n"), "write true"));
  EXPECT_TRUE(test::says(refusal("bnb_4bit_quant_type: fp4\n"), "nf4"));
  EXPECT_TRUE(test::says(refusal("template: llama3\n"), "template"));
}

TEST(ForeignKeys, WhatIsDoneInAnotherWayIsSaid) {
  EXPECT_EQ(parse("image_max_pixels: 262144\n").notes,
            std::vector<std::string>{
                "image_max_pixels: images are scaled by the model's own rule; max_soft_tokens sets their size"});
  for (const char* name : {"paged_adamw_8bit", "paged_adamw_32bit", "adamw_torch_8bit", "ao_adamw_4bit"}) {
    const TrainConfig config = parse(std::string("optim: ") + name + "\n");
    ASSERT_EQ(config.notes.size(), 1u) << name;
    EXPECT_TRUE(test::says(config.notes[0], std::string("optim ") + name + ": "));
  }
}

TEST(ForeignKeys, OptimizersGoByTheNamesOfOtherTools) {
  using enum OptimizerKind;
  const std::pair<const char*, OptimizerKind> names[] = {
      {"adamw_torch", kAdamW},       {"adamw_torch_fused", kAdamW}, {"adamw_hf", kAdamW},
      {"paged_adamw_32bit", kAdamW}, {"adamw_8bit", kAdamW8bit},    {"adamw_bnb_8bit", kAdamW8bit},
      {"adafactor", kAdafactor},     {"lion_32bit", kLion},         {"Muon", kMuon}};
  for (const auto& [name, kind] : names) {
    const TrainConfig config = parse(std::string("optim: ") + name + "\n");
    EXPECT_EQ(config.optimizer, kind) << name;
    EXPECT_EQ(parse(to_yaml(config)).optimizer, kind) << name;
  }
  EXPECT_EQ(parse("use_muon: true\n").optimizer, kMuon);
  EXPECT_TRUE(test::says(refusal("use_muon: true\noptim: lion_32bit\n"), "contradicts"));
  EXPECT_EQ(parse("use_muon: false\noptim: lion_32bit\n").optimizer, kLion);
  for (const char* name : {"lion_8bit", "sgd", "galore_adamw", "schedule_free_adamw"})
    EXPECT_TRUE(test::says(refusal(std::string("optim: ") + name + "\n"), name));
}

TEST(ForeignKeys, OptimizersTakeTheirOptions) {
  const TrainConfig map = parse("optim: muon\noptim_args: {momentum: 0.9, nesterov: false, adjust_lr_fn: original}\n");
  EXPECT_EQ(map.optim_args.momentum, 0.9);
  EXPECT_EQ(map.optim_args.nesterov, false);
  EXPECT_EQ(parse(to_yaml(map)).optim_args, map.optim_args);
  const TrainConfig text = parse("optim: muon\noptim_args: momentum=0.9,nesterov=False,adjust_lr_fn=original\n");
  EXPECT_EQ(text.optim_args, map.optim_args);
  EXPECT_EQ(parse("optim: adafactor\noptim_args: {scale_parameter: false, relative_step: False}\n").optim_args,
            OptimizerOptions{});
  EXPECT_TRUE(test::says(refusal("optim: adafactor\noptim_args: {relative_step: true}\n"), "relative_step"));
  EXPECT_TRUE(test::says(refusal("optim_args: {momentum: 0.9}\n"), "adamw takes no momentum"));
  EXPECT_TRUE(test::says(refusal("optim: lion\noptim_args:\n  betas: 1\n"), "c.yaml:3: key 'betas'"));
  EXPECT_TRUE(test::says(refusal("optim: adafactor\nadam_beta2: 0.95\n"), "adam_beta2"));
  EXPECT_EQ(parse("optim: lion\nadam_beta2: 0.95\n").adam_beta2, 0.95);
}

TEST(ForeignKeys, GroupsHaveRates) {
  const TrainConfig config =
      parse("lr_groups:\n  - {name: b, modules: [lora_B, o_proj], lr: 1e-3}\n  - {modules: v_proj, lr: 0}\n");
  ASSERT_EQ(config.lr_groups.size(), 2u);
  EXPECT_EQ(config.lr_groups[0], (RateGroup{"b", {"lora_B", "o_proj"}, 1e-3}));
  EXPECT_EQ(config.lr_groups[1].name, "2");
  EXPECT_EQ(parse(to_yaml(config)).lr_groups, config.lr_groups);
  EXPECT_TRUE(test::says(refusal("lr_groups: [{modules: [q], rate: 1}]\n"), "rate"));
  EXPECT_TRUE(test::says(refusal("lr_groups: [{modules: [q]}]\n"), "modules and lr"));
}

TEST(ForeignKeys, StoppingAndChoosingGoByTransformersNames) {
  const TrainConfig config = parse(
      "early_stopping_patience: 3\nearly_stopping_threshold: 0.01\nload_best_model_at_end: true\n"
      "metric_for_best_model: accuracy\ngreater_is_better: true\neval_strategy: steps\nsave_strategy: best\n");
  EXPECT_EQ(config.early_stopping_patience, 3);
  EXPECT_EQ(config.metric_for_best_model, BestMetric::kTokenAccuracy);
  EXPECT_EQ(parse(to_yaml(config)).metric_for_best_model, BestMetric::kTokenAccuracy);
  EXPECT_EQ(parse("early_stopping_steps: 2\n").early_stopping_patience, 2);
  EXPECT_EQ(parse("early_stopping_patience: false\n").early_stopping_patience, std::nullopt);
  EXPECT_EQ(parse("metric_for_best_model: loss\ngreater_is_better: false\n").metric_for_best_model, BestMetric::kLoss);
  const std::pair<const char*, const char*> refused[] = {
      {"greater_is_better: true\n", "eval_loss is better when it is less"},
      {"metric_for_best_model: rouge-l\n", "exact_match"},
      {"metric_for_best_model: eval_exact_match\n", "eval_generate: true"},
      {"early_stopping_threshold: 0.1\n", "needs early_stopping_patience"},
      {"early_stopping_patience: 2\neval_strategy: no\n", "needs evaluations"},
      {"load_best_model_at_end: true\nsave_strategy: no\n", "needs checkpoints"},
      {"load_best_model_at_end: true\nsave_steps: 0\n", "needs checkpoints"},
      {"label_smoothing_factor: 1\n", "label_smoothing_factor"}};
  for (const auto& [yaml, part] : refused) EXPECT_TRUE(test::says(refusal(yaml), part)) << yaml;
}

TEST(ForeignKeys, OtherToolsSpellingsOfSettingsAreUsed) {
  using enum lora::Tower;
  const TrainConfig config = parse(
      "finetune_vision_layers: true\nfinetune_language_layers: false\nuse_gradient_checkpointing: unsloth\n"
      "quantization_bit: 4\nassistant_only_loss: true\nneat_packing: true\ntrain_sampling_strategy: sequential\n"
      "warmup_steps: 0.03\nadapter_name_or_path: a\nmedia_dir: pics\n");
  EXPECT_EQ(config.lora.towers, std::vector<lora::Tower>{kVision});
  EXPECT_EQ(config.gradient_checkpointing, true);
  EXPECT_EQ(config.storage, "nf4");
  EXPECT_FALSE(config.train_on_inputs);
  EXPECT_EQ(config.packing, true);
  EXPECT_FALSE(config.shuffle);
  EXPECT_EQ(config.warmup_ratio, 0.03);
  EXPECT_EQ(config.warmup_steps, std::nullopt);
  EXPECT_EQ(config.init_adapter, "a");
  EXPECT_EQ(config.media_root, "pics");
  EXPECT_TRUE(parse("completion_only_loss: false\n").train_on_inputs);
  const TrainConfig frozen = parse("freeze_vision_tower: false\nfreeze_multi_modal_projector: false\n");
  EXPECT_EQ(frozen.lora.towers, (std::vector<lora::Tower>{kLanguage, kVision, kProjectors}));
}

TEST(ForeignKeys, AWarmUpThatIsNotUsedIsWrittenAsZero) {
  EXPECT_EQ(parse("warmup_steps: 0\nwarmup_ratio: 0.1\n").warmup_ratio, 0.1);
  EXPECT_EQ(parse("warmup_steps: 0\nwarmup_ratio: 0.1\n").warmup_steps, std::nullopt);
  EXPECT_EQ(parse("warmup_ratio: 0.0\nwarmup_steps: 7\n").warmup_steps, 7);
  EXPECT_EQ(parse("warmup_ratio: 0.0\nwarmup_steps: 7\n").warmup_ratio, std::nullopt);
  EXPECT_TRUE(test::says(refusal("warmup_steps: 0.2\nwarmup_ratio: 0.1\n"), "keep one"));
  EXPECT_TRUE(test::says(refusal("warmup_steps: 2.5\n"), "warmup_steps"));
}

TEST(ForeignKeys, SchedulesTakeTheirOptions) {
  const TrainConfig config = parse("lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: '0.1'}\n");
  EXPECT_EQ(config.lr_scheduler, ScheduleKind::kCosineWithMinLr);
  EXPECT_EQ(config.lr_scheduler_kwargs.min_lr_rate, 0.1);
  EXPECT_EQ(parse(to_yaml(config)).lr_scheduler_kwargs, config.lr_scheduler_kwargs);
  EXPECT_EQ(parse("", {"--lr-scheduler-type", "polynomial", "--lr_scheduler_kwargs", "{\"power\": 2}"})
                .lr_scheduler_kwargs.power,
            2.0);
  EXPECT_EQ(
      parse("lr_scheduler_type: polynomial\nlr_scheduler_kwargs: '{\"lr_end\": 1e-6}'\n").lr_scheduler_kwargs.lr_end,
      1e-6);
  const TrainConfig axolotl = parse("lr_scheduler: cosine\ncosine_min_lr_ratio: 0.2\n");
  EXPECT_EQ(axolotl.lr_scheduler, ScheduleKind::kCosineWithMinLr);
  EXPECT_EQ(axolotl.lr_scheduler_kwargs.min_lr_rate, 0.2);
  EXPECT_TRUE(test::says(refusal("lr_scheduler: cosine_with_min_lr\n"), "min_lr_rate"));
  EXPECT_TRUE(
      test::says(refusal("lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-5, min_lr_rate: 0.1}\n"),
                 "not both"));
  EXPECT_TRUE(test::says(refusal("lr_scheduler_kwargs: {power: 2}\n"), "takes no power"));
  EXPECT_TRUE(test::says(refusal("lr_scheduler: warmup_stable_decay\n"), "num_decay_steps"));
  EXPECT_TRUE(test::says(
      refusal("lr_scheduler: polynomial\nlearning_rate: 1e-4\nlr_scheduler_kwargs: {lr_end: 1e-3}\n"), "lr_end"));
  EXPECT_TRUE(test::says(refusal("lr_scheduler_kwargs:\n  min_rl: 2\n"), "c.yaml:2: key 'min_rl'"));
  EXPECT_TRUE(test::says(refusal("lr_scheduler: wsd\nlr_scheduler_kwargs: {num_decay_steps: 3, decay_type: step}\n"),
                         "1-sqrt"));
}

}  // namespace
}  // namespace bezel::train
