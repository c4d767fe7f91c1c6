#include "bezel/train/config.h"

#include <cstdio>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "support/temp_folder.h"

namespace bezel::train {
namespace {

TrainConfig parse(const std::string& yaml, const std::vector<std::string>& flags = {}) {
  return parse_train_config(yaml, "c.yaml", parse_overrides(flags), false);
}

/// The message of the config error that `yaml` gives; "" when it is accepted.
std::string refusal(const std::string& yaml, const std::vector<std::string>& flags = {}) {
  try {
    parse(yaml, flags);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
}

void expect_refused(const std::string& yaml, const std::vector<std::string>& parts) {
  const std::string message = refusal(yaml);
  EXPECT_NE(message, "") << yaml;
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n  in " << message;
}

TEST(TrainConfig, DefaultsAreThoseOfTheDocumentation) {
  const TrainConfig config = parse("");
  EXPECT_EQ(config.lora.rank, 16);
  EXPECT_EQ(config.lora.alpha, 32.0);
  EXPECT_EQ(config.learning_rate, 2e-4);
  EXPECT_EQ(config.lr_scheduler, ScheduleKind::kCosine);
  EXPECT_EQ(config.warmup_ratio, std::nullopt) << "0.03 is of runs that are long enough";
  EXPECT_EQ(config.gradient_accumulation_steps, 4);
  EXPECT_EQ(config.max_seq_length, 2048);
  EXPECT_EQ(config.lora.towers, std::vector<lora::Tower>{lora::Tower::kLanguage});
  EXPECT_FALSE(config.gradient_checkpointing.has_value());
}

TEST(TrainConfig, FlagsBeatTheFileAndTheFileBeatsDefaults) {
  const TrainConfig config = parse("learning_rate: 1e-3\nseed: 7\n", {"--lr", "5e-4", "--max-steps=12"});
  EXPECT_EQ(config.learning_rate, 5e-4);
  EXPECT_EQ(config.seed, 7);
  EXPECT_EQ(config.max_steps, 12);
  EXPECT_EQ(config.weight_decay, 0.0);
}

TEST(TrainConfig, WhatIsDrawnForEachSampleIsNotShared) {
  EXPECT_EQ(parse("").share_prefixes, std::nullopt);
  EXPECT_EQ(parse("share_prefixes: auto\nlora_dropout: 0.1\n").share_prefixes, std::nullopt);
  EXPECT_EQ(parse("share_prefixes: true\n").share_prefixes, true);
  expect_refused("share_prefixes: true\nlora_dropout: 0.1\n", {"'share_prefixes'", "lora_dropout"});
  expect_refused("share_prefixes: true\nneftune_noise_alpha: 5\n", {"'share_prefixes'", "neftune_noise_alpha"});
}

TEST(TrainConfig, DashesAndUnderscoresAreTheSame) {
  EXPECT_EQ(parse("lora-r: 4\n", {"--micro-batch_size", "3"}).micro_batch_size, 3);
  EXPECT_EQ(parse("lora-r: 4\n").lora.rank, 4);
}

TEST(TrainConfig, AliasesOfOtherTools) {
  const TrainConfig config = parse(
      "model_name_or_path: m\nlora_target_modules: [q_proj, v_proj]\nper_device_train_batch_size: 2\nsequence_len: "
      "128\n"
      "num_epochs: 3\nlr_scheduler_type: linear\nsample_packing: false\nload_in_4bit: false\nbf16: auto\n"
      "optimizer: adamw_torch\nadapter: lora\n");
  EXPECT_EQ(config.base_model, "m");
  EXPECT_EQ(config.lora.target_modules.names, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_EQ(config.micro_batch_size, 2);
  EXPECT_EQ(config.max_seq_length, 128);
  EXPECT_EQ(config.num_train_epochs, 3.0);
  EXPECT_EQ(config.lr_scheduler, ScheduleKind::kLinear);
  EXPECT_EQ(config.dtype, "bfloat16");
}

TEST(TrainConfig, AlphaFollowsTheRankUnlessGiven) {
  EXPECT_EQ(parse("lora_r: 8\n").lora.alpha, 16.0);
  EXPECT_EQ(parse("lora_alpha: 5\n", {"--lora_r", "8"}).lora.alpha, 5.0);
}

TEST(TrainConfig, TargetsAreNamesARegexOrAllLinear) {
  using Kind = lora::ModulePattern::Kind;
  EXPECT_EQ(parse("target_modules: q_proj\n").lora.target_modules.kind, Kind::kNames);
  EXPECT_EQ(parse("target_modules: q_proj,v_proj\n").lora.target_modules.names.size(), 2u);
  EXPECT_EQ(parse("target_modules: all-linear\n").lora.target_modules.kind, Kind::kAllLinear);
  EXPECT_EQ(parse("lora_target_linear: true\n").lora.target_modules.kind, Kind::kAllLinear);
  const TrainConfig regex = parse("", {"--target-modules", R"([a-z.]*\.(q|v)_proj)"});
  EXPECT_EQ(regex.lora.target_modules.kind, Kind::kRegex);
  EXPECT_EQ(regex.lora.target_modules.regex, R"([a-z.]*\.(q|v)_proj)");
  EXPECT_EQ(parse("").lora.target_modules.kind, Kind::kDefault);
}

TEST(TrainConfig, ListsAndMapsAsFlags) {
  const TrainConfig config =
      parse("", {"--lora-towers", "language,vision", "--rank-pattern", "{q_proj: 4, v_proj: 2}"});
  EXPECT_EQ(config.lora.towers.size(), 2u);
  ASSERT_EQ(config.lora.rank_pattern.size(), 2u);
  EXPECT_EQ(config.lora.rank_pattern[1].second, 2);
}

TEST(TrainConfig, EmptyValuesSayNothing) {
  EXPECT_EQ(parse("max_steps:\nlearning_rate: ~\nseed: null\n").seed, 42);
  EXPECT_EQ(parse("max_steps: 5\n", {"--max-steps", "null"}).max_steps, std::nullopt);
  EXPECT_EQ(parse("max_steps: -1\n").max_steps, std::nullopt);
}

TEST(TrainConfig, UnknownKeysNameTheNearest) {
  expect_refused("seed: 1\nlearning_rat: 1e-4\n", {"c.yaml:2", "learning_rat'", "'learning_rate'"});
  expect_refused("lora-rnk: 4\n", {"lora_rank"});
  expect_refused("zzzzzzzzzzzzzzz: 4\n", {"--help"});
  EXPECT_NE(refusal("", {"--lerning-rate", "1"}).find("'learning_rate'"), std::string::npos);
  expect_refused("flash_atention: true\n", {"did you mean 'flash_attention'?"});
  expect_refused("hyperparameters:\n  r: 8\n", {"c.yaml:1", "top level"});
}

TEST(TrainConfig, UnknownKeysAreReportedAtOnceEachWithItsLine) {
  expect_refused("learning_rat: 1e-4\nseed: 1\nzzzzzzzzzzzzzzz: [4]\nlora_rnk: 4\n",
                 {"c.yaml:1: unknown key 'learning_rat' (did you mean 'learning_rate'?)",
                  "c.yaml:3: unknown key 'zzzzzzzzzzzzzzz' (delete it)", "c.yaml:4: unknown key 'lora_rnk'"});
  const std::string flags = refusal("", {"--lerning-rate", "1", "--seed", "2", "--zzzzzzzzzzzzzzz=3", "--lora-rnk"});
  EXPECT_EQ(flags.find("--lerning-rate: unknown key 'lerning_rate' (did you mean 'learning_rate'?); --zzz"), 0u)
      << flags;
  EXPECT_NE(flags.find("--lora-rnk"), std::string::npos) << flags;
  EXPECT_EQ(flags.find("--seed"), std::string::npos) << flags;
  const std::string built = test::error_of([] {
    parse_train_config("sed: 1\n", "c.yaml", {{"--lerning", "lerning", "1"}}, false);
  });
  EXPECT_EQ(built.find("c.yaml:1: unknown key 'sed' (did you mean 'seed'?); --lerning: unknown key 'lerning'"), 0u)
      << built;
  std::string many;
  for (int i = 0; i < 103; ++i) many += "zzzzzzzzzzzzzzz" + std::to_string(i) + ": 1\n";
  expect_refused(many, {"zzz99'", "and 3 more"});
}

TEST(TrainConfig, WarmUpIsAShareOrANumberOfUpdates) {
  EXPECT_EQ(parse(to_yaml(parse(""))).warmup_ratio, std::nullopt) << "a default is not given by writing it";
  EXPECT_EQ(parse(to_yaml(parse("warmup_ratio: 0.25\n"))).warmup_ratio, 0.25);
  EXPECT_EQ(parse("warmup_ratio: 0.25\n", {"--warmup-steps", "5"}).warmup_ratio, std::nullopt);
  EXPECT_EQ(parse("warmup_steps: 5\n", {"--warmup-ratio", "0.25"}).warmup_steps, std::nullopt);
  EXPECT_NE(refusal("", {"--warmup-ratio", "0.25", "--warmup-steps", "5"}).find("keep one"), std::string::npos);
}

TEST(TrainConfig, ConstantHasNoWarmUp) {
  EXPECT_EQ(parse("lr_scheduler: constant\n").lr_scheduler, ScheduleKind::kConstant);
  EXPECT_EQ(parse("lr_scheduler: constant_with_warmup\nwarmup_steps: 3\n").lr_scheduler,
            ScheduleKind::kConstantWithWarmup);
  EXPECT_EQ(refusal("lr_scheduler: constant\nwarmup_steps: 0\n"), "");
  expect_refused("lr_scheduler: constant\nwarmup_steps: 3\n", {"warmup_steps", "constant_with_warmup"});
  expect_refused("lr_scheduler_type: constant\nwarmup_ratio: 0.1\n", {"warmup_ratio", "constant_with_warmup"});
  EXPECT_NE(to_yaml(parse("lr_scheduler: constant\n")).find("lr_scheduler: constant\n"), std::string::npos);
}

TEST(TrainConfig, AKeyTwiceIsRefused) {
  expect_refused("seed: 1\nseed: 1\n", {"c.yaml:2", "'seed'", "twice"});
  expect_refused("rank_pattern:\n  a: 1\n  a: 2\n", {"c.yaml:3", "twice"});
}

TEST(TrainConfig, TheSameInTwoWaysIsReadAndAContradictionIsRefusedWithBothLines) {
  EXPECT_EQ(parse("lr: 1e-4\nlearning_rate: 0.0001\n").learning_rate, 1e-4);
  EXPECT_EQ(parse("torch_dtype: bfloat16\nbf16: true\n").dtype, "bfloat16");
  EXPECT_EQ(parse("random_state: 3407\nseed: 3407\n").seed, 3407);
  EXPECT_EQ(parse("adapter: qlora\nload_in_4bit: true\nload_in_8bit: false\n").storage, "nf4");
  expect_refused("lr: 1e-4\nseed: 1\nlearning_rate: 2e-4\n", {"c.yaml:3: key 'learning_rate'", "c.yaml:1: key 'lr'"});
  expect_refused("dtype: float32\nbf16: true\n", {"c.yaml:2: key 'bf16'", "c.yaml:1: key 'dtype'", "contradicts"});
  expect_refused("random_state: 1\nseed: 2\n", {"c.yaml:2", "c.yaml:1"});
  expect_refused("adapter: qlora\nload_in_4bit: false\n", {"c.yaml:1: key 'adapter'", "c.yaml:2: key 'load_in_4bit'"});
  expect_refused("load_in_8bit: true\nload_in_4bit: true\n", {"contradicts"});
  expect_refused("train_file: a\ndatasets: [b]\n", {"c.yaml:2: key 'datasets'", "c.yaml:1: key 'train_file'"});
  expect_refused("finetune_vision_layers: true\nlora_towers: [language]\n", {"c.yaml:1", "c.yaml:2", "keep one"});
}

TEST(TrainConfig, ValuesAsYamlWritersSpellThem) {
  const TrainConfig config = parse(
      "lora_r: \"16\"\nlearning_rate: '2e-4'\nuse_rslora: \"True\"\nshuffle: 'no'\nlora_alpha: \"3_2\"\nmax_steps: "
      "1_000\n"
      "fp16:\ndeepspeed: None\neval_file: \"\"\nmax_grad_norm: +0.5\nmicro_batch_size: ~\n");
  EXPECT_EQ(config.lora.rank, 16);
  EXPECT_EQ(config.lora.alpha, 32);
  EXPECT_EQ(config.learning_rate, 2e-4);
  EXPECT_TRUE(config.lora.use_rslora);
  EXPECT_FALSE(config.shuffle);
  EXPECT_EQ(config.max_steps, 1000);
  EXPECT_EQ(config.eval_file, "");
  EXPECT_EQ(config.max_grad_norm, 0.5);
  EXPECT_EQ(config.micro_batch_size, 1);
  EXPECT_TRUE(config.notes.empty());
  for (const char* name : {"bf16", "bfloat16", "torch.bfloat16", "auto", "BFloat16"})
    EXPECT_EQ(parse(std::string("dtype: ") + name).dtype, "bfloat16") << name;
  for (const char* name : {"fp32", "float32", "torch.float32", "float"})
    EXPECT_EQ(parse(std::string("torch_dtype: ") + name).dtype, "float32") << name;
  expect_refused("dtype: float16\n", {"float16 is not supported"});
  expect_refused("lora_r: _1\n", {"whole number"});
  expect_refused("lora_r: 1__6\n", {"whole number"});
}

TEST(TrainConfig, LinesAreThoseOfTheKey) {
  expect_refused("seed: 1\nlora_r:\n\n  sixteen\n", {"c.yaml:2: key 'lora_r'"});
  expect_refused("seed: 1\nzzzzzzzzzzzzz:\n  - 1\n  - 2\n", {"c.yaml:2: unknown key 'zzzzzzzzzzzzz'"});
  expect_refused("rank_pattern:\n  q_proj: 1\n  v_proj:\n    x\n", {"c.yaml:3: key 'v_proj'"});
}

TEST(TrainConfig, WrongTypesNamePlaceValueAndExpectation) {
  expect_refused("seed: 1\nlora_r: sixteen\n", {"c.yaml:2", "lora_r", "'sixteen'", "whole number"});
  expect_refused("lora_r: 1.5\n", {"whole number"});
  expect_refused("lora_r: 1e2\n", {"whole number"});
  expect_refused("lora_r: \"1.5\"\n", {"whole number"});
  expect_refused("lora_r: 99999999999999999999\n", {"whole number"});
  expect_refused("lora_r: [1]\n", {"a list"});
  expect_refused("shuffle: maybe\n", {"true or false"});
  expect_refused("learning_rate: .nan\n", {"a number"});
  expect_refused("learning_rate: inf\n", {"a number"});
  expect_refused("base_model: {a: b}\n", {"a map", "a text"});
  expect_refused("lora_towers: [language, ears]\n", {"vision"});
  expect_refused("lr_scheduler: reduce_lr_on_plateau\n", {"reduce_lr_on_plateau", "cosine", "polynomial"});
  expect_refused("lora_r: x\nseed: y\n", {"c.yaml:1", "c.yaml:2"});
}

TEST(TrainConfig, ValuesOutOfRangeAndContradictionsAreRefused) {
  expect_refused("lora_r: 0\n", {});
  expect_refused("lora_dropout: 1.5\n", {});
  expect_refused("learning_rate: -1e-4\n", {"learning_rate"});
  expect_refused("micro_batch_size: 0\n", {"micro_batch_size"});
  expect_refused("max_steps: 0\n", {"max_steps"});
  expect_refused("logging_steps: 0\n", {"logging_steps"});
  expect_refused("save_steps: 1.5\n", {"save_steps", "1.5"});
  expect_refused("eval_steps: -3\n", {"eval_steps"});
  expect_refused("max_samples: 0\n", {"max_samples"});
  expect_refused("warmup_ratio: 0.1\nwarmup_steps: 5\n", {"warmup_ratio", "warmup_steps"});
  expect_refused("eval_file: e.jsonl\nval_set_size: 0.1\n", {"eval_file"});
  expect_refused("train_on_inputs: true\nmask_history: true\n", {"contradicts"});
  expect_refused("device: tpu\n", {"cuda"});
  expect_refused("max_soft_tokens: 100\n", {"280"});
  EXPECT_EQ(refusal("device: cuda:1\nmax_soft_tokens: 70\n"), "");
}

TEST(TrainConfig, WhatIsNotBuiltIsRefusedByName) {
  expect_refused("adapter: dora\n", {"c.yaml:1", "adapter", "not built yet"});
  expect_refused("init_lora_weights: olora\n", {"init_lora_weights", "base's weights"});
  expect_refused("init_lora_weights: pissa_niter_0\n", {"init_lora_weights", "pissa_niter_N"});
  EXPECT_EQ(parse("init_lora_weights: pissa_niter_4\n").lora.init_lora_weights, "pissa_niter_4");
  expect_refused("init_lora_weights: eva\n", {"init_lora_weights", "init_adapter"});
  expect_refused("init_lora_weights: zeros\n", {"init_lora_weights", "orthogonal"});
  expect_refused("init_lora_weights: orthogonal\nlora_r: 3\n", {"lora_r", "even"});
  EXPECT_EQ(refusal("use_dora: false\nuse_rslora: true\nresume_from_checkpoint: none\nreport_to: none\n"), "");
}

TEST(TrainConfig, ReadsTheKindsOfAdapters) {
  const TrainConfig config = parse(
      "peft_use_dora: true\nloraplus_lr_ratio: 16\nloraplus_lr_embedding: 1e-5\ninit_lora_weights: Gaussian\n"
      "lora_modules_to_save: [lm_head]\ntrainable_token_indices: [7, 5]\n");
  EXPECT_TRUE(config.lora.use_dora);
  EXPECT_EQ(config.loraplus_lr_ratio, 16.0);
  EXPECT_EQ(config.loraplus_lr_embedding, 1e-5);
  EXPECT_EQ(config.lora.init_lora_weights, "gaussian");
  EXPECT_EQ(config.lora.modules_to_save, (std::vector<std::string>{"lm_head"}));
  ASSERT_EQ(config.lora.trainable_token_indices.size(), 1u);
  EXPECT_EQ(config.lora.trainable_token_indices[0].first, "embed_tokens");
  EXPECT_EQ(config.lora.trainable_token_indices[0].second, (std::vector<std::int64_t>{7, 5}));
  EXPECT_EQ(to_yaml(parse(to_yaml(config))), to_yaml(config));
  const TrainConfig map = parse("trainable_token_indices: {embed_tokens: [1], lm_head: [2, 3]}\n");
  EXPECT_EQ(map.lora.trainable_token_indices[1].second, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(to_yaml(parse(to_yaml(map))), to_yaml(map));
  EXPECT_EQ(parse("init_lora_weights: true\n").lora.init_lora_weights, "true");
  EXPECT_EQ(parse("init_lora_weights: false\n").lora.init_lora_weights, "false");
  EXPECT_TRUE(parse("trainable_token_indices: null\nmodules_to_save: []\n").lora.modules_to_save.empty());
}

TEST(TrainConfig, PackingIsLeftToTheRunUnlessGiven) {
  EXPECT_FALSE(parse("").packing.has_value());
  EXPECT_FALSE(parse("packing: auto\n").packing.has_value());
  EXPECT_EQ(parse("sample_packing: true\n").packing, true);
  EXPECT_EQ(parse("packing: false\n").packing, false);
  expect_refused("packing: often\n", {"c.yaml:1", "packing"});
  EXPECT_EQ(parse(to_yaml(parse("packing: false\n"))).packing, false);
}

TEST(TrainConfig, HowSamplesAreRead) {
  EXPECT_EQ(parse("").dataloader_num_workers, 1);
  EXPECT_EQ(parse("dataloader_num_workers: 0\ndata_timeout: 2.5\n").data_timeout_s, 2.5);
  expect_refused("dataloader_num_workers: -1\n", {"dataloader_num_workers"});
  expect_refused("data_timeout: -1\n", {"data_timeout"});
}

TEST(TrainConfig, HowToResume) {
  EXPECT_EQ(parse("").resume_from_checkpoint, "");
  for (const char* off : {"none", "false"})
    EXPECT_EQ(parse(std::string("resume_from_checkpoint: ") + off + "\n").resume_from_checkpoint, "");
  EXPECT_EQ(parse("resume_from_checkpoint: auto\n").resume_from_checkpoint, "auto");
  EXPECT_EQ(parse("auto_resume_from_checkpoints: true\n").resume_from_checkpoint, "auto");
  EXPECT_EQ(parse("resume_from_checkpoint: out/checkpoint-20\n").resume_from_checkpoint, "out/checkpoint-20");
  EXPECT_TRUE(parse("force_resume: true\n").force_resume);
}

TEST(TrainConfig, ReportsAreChosenByName) {
  EXPECT_EQ(parse("").report_to, (std::vector<std::string>{"jsonl", "tensorboard", "html"}));
  EXPECT_EQ(parse("report_to: all").report_to, parse("").report_to);
  EXPECT_EQ(parse("report_to: html").report_to, std::vector<std::string>{"html"});
  EXPECT_TRUE(parse("report_to: none").report_to.empty());
  EXPECT_TRUE(parse("report_to: [None]").report_to.empty());
  EXPECT_EQ(parse("report_to: ['TensorBoard']").report_to, std::vector<std::string>{"tensorboard"});
  expect_refused("report_to: [jsonl, wandb]\n", {"c.yaml:1", "report_to", "tensorboard", "wandb sync"});
  expect_refused("report_to: mlflow\n", {"c.yaml:1", "metrics.jsonl", "report.html"});
}

TEST(TrainConfig, StorageOfTheFrozenWeights) {
  EXPECT_EQ(parse("storage: nf4\nquantize_skip: [lm_head, 'model.vision_tower']\nquantize_embeddings: int8\n").storage,
            "nf4");
  EXPECT_EQ(parse("load_in_4bit: true\n").storage, "nf4");
  EXPECT_EQ(parse("adapter: qlora\n").storage, "nf4");
  EXPECT_EQ(parse("load_in_8bit: true\n").storage, "int8");
  expect_refused("storage: fp8\n", {"c.yaml:1", "storage", "nf4"});
  expect_refused("quantize_embeddings: nf4\n", {"c.yaml:1", "quantize_embeddings", "int8"});
}

TEST(TrainConfig, AliasBombIsRefused) {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) bomb += std::string(i == 0 ? "*" : ", *") + static_cast<char>(c - 1);
    bomb += "]\n";
  }
  expect_refused(bomb, {"c.yaml:2", "aliases"});
  expect_refused("seed: &s 1\nmax_steps: *s\n", {"c.yaml:2", "aliases"});
}

TEST(TrainConfig, DeepLongAndBrokenYamlIsRefused) {
  expect_refused("seed: " + std::string(100000, '['), {});
  expect_refused("seed: [[[[[[[[[[1]]]]]]]]]]\n", {"nested"});
  expect_refused("seed: 1 #" + std::string(2u << 20, 'x'), {"bytes"});
  expect_refused("seed: [1\n", {"YAML"});
  expect_refused("- a\n- b\n", {"key: value"});
  expect_refused("seed: 1\n---\nseed: 2\n", {"several"});
  expect_refused("? [a]\n: 1\n", {"key"});
  expect_refused("? \n: 1\n", {"key"});
  expect_refused("target_modules: \"q\\0, v\"\n", {"target_modules", "NUL"});
  expect_refused("rank_pattern: {'': 4}\n", {"a key is missing here"});
  expect_refused("target_modules: [q_proj, '']\n", {"target_modules", "expected a name"});
  expect_refused("seed: 1\n\tlr: 2\n", {"c.yaml"});
}

TEST(TrainConfig, FlagsWithoutValue) {
  EXPECT_TRUE(parse("", {"--train-on-inputs", "--seed", "3"}).train_on_inputs);
  EXPECT_FALSE(parse("", {"--shuffle", "false"}).shuffle);
  EXPECT_THROW(parse_overrides({"--seed"}), Error);
  EXPECT_THROW(parse_overrides({"--seed", "--lr", "1"}), Error);
  EXPECT_THROW(parse_overrides({"stray"}), Error);
  EXPECT_EQ(refusal("", {"--seed", "1", "--seed", "2"}).find("--seed"), 0u);
  EXPECT_EQ(parse("", {"--tf32", "--seed", "3"}).notes.size(), 1u) << "a key of other tools may be a switch";
}

TEST(TrainConfig, PathsAreRequiredForARun) {
  EXPECT_THROW(parse_train_config("output_dir: o\ntrain_file: t\n", "c.yaml"), Error);
  EXPECT_EQ(parse_train_config("base_model: b\noutput_dir: o\ntrain_file: t\n", "c.yaml").output_dir, "o");
}

TEST(TrainConfig, ResolvedYamlReadsBackEqual) {
  const TrainConfig config = parse(
      "base_model: \"we\\\"ird \\\\ name: #1\"\noutput_dir: 'null'\nlora_r: 3\nlora_alpha: 7.25\nwarmup_steps: 9\n"
      "lora_towers: [vision, audio]\nrank_pattern: {q_proj: 4}\nalpha_pattern: {'a.*b': 1.5}\nlr: "
      "3.3333333333333335e-05\n"
      "adam_epsilon: 1e-8\ngradient_checkpointing: true\ntarget_modules: '.*\\.q_proj'\nexclude_modules: [o_proj]\n"
      "val_set_size: 0.25\nmax_soft_tokens: 140\nlr_scheduler: constant_with_warmup\nthreads: 2\nreport_to: none\n"
      "saves_per_epoch: 2\neval_strategy: steps\neval_steps: 0.25\nmax_samples: 7\ndataset: [a, b]\n"
      "field_messages: dialog\nroles: {user: [human, visitor]}\nmessage_property_mappings: {role: who}\n");
  const std::string yaml = to_yaml(config);
  const TrainConfig again = parse_train_config(yaml, "resolved", {}, false);
  EXPECT_EQ(to_yaml(again), yaml);
  EXPECT_EQ(again.base_model, "we\"ird \\ name: #1");
  EXPECT_EQ(again.output_dir, "null");
  EXPECT_EQ(again.learning_rate, 3.3333333333333335e-05);
  EXPECT_EQ(again.lora.target_modules.regex, R"(.*\.q_proj)");
  EXPECT_EQ(again.warmup_steps, 9);
  EXPECT_EQ(again.saves_per_epoch, 2);
  EXPECT_EQ(again.eval_steps, 0.25);
  EXPECT_EQ(again.dataset, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(again.columns, config.columns);
  EXPECT_NE(yaml.find("adam_epsilon: 1.0e-08"), std::string::npos) << yaml;
}

TEST(TrainConfig, NamesOfKeysAreUnique) {
  std::set<std::string> names;
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(names.insert(std::string(key.name)).second) << key.name;
    std::string aliases(key.aliases);
    for (std::size_t begin = 0; begin < aliases.size();) {
      const std::size_t end = std::min(aliases.find(' ', begin), aliases.size());
      EXPECT_TRUE(names.insert(aliases.substr(begin, end - begin)).second) << key.name;
      begin = end + 1;
    }
  }
}

TEST(TrainConfig, MissingFileAndFolderAreIoErrors) {
  for (const char* path : {"/no/such/config.yaml", "/tmp"}) {
    try {
      read_train_config(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
    }
  }
}

}  // namespace
}  // namespace bezel::train
