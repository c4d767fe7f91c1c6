#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/processor_config.h"
#include "bezel/data/sample_files.h"
#include "bezel/data/tokenizer_json.h"
#include "bezel/lora/config.h"
#include "bezel/train/optimizer_settings.h"
#include "bezel/train/preference_config.h"
#include "bezel/train/schedule.h"
#include "bezel/train/stopping.h"

namespace bezel::train {

/// An item of `datasets`: a file or folder of samples.
struct DatasetEntry {
  data::SampleFile file = {};
  std::string split = {};  ///< of a folder: "train" (or ""), "validation" or "test"
  std::string where = {};  ///< in errors: "config.yaml:12"
};

/// Settings of a training run. `config_keys()` describes each key; an empty text means "not given".
struct TrainConfig {
  std::string base_model;
  std::string base_name;   ///< of the base in the adapter's files: base_model as it was given, which may be a hub id
  std::string mmproj;      ///< GGUF file with the towers of a base_model that is one
  std::string tokenizer;   ///< folder with the small files of a base_model of Orbax
  std::string convert_to;  ///< folder that such a base_model is converted to
  std::string output_dir;
  std::string train_file;
  std::string eval_file;
  std::string media_root;
  std::vector<DatasetEntry> datasets;       ///< in place of train_file
  std::vector<DatasetEntry> test_datasets;  ///< in place of eval_file
  std::vector<std::string> dataset;         ///< in place of train_file: names in dataset_dir/dataset_info.json
  std::vector<std::string> eval_dataset;
  std::string dataset_dir = "data";
  data::ColumnMap columns;                  ///< of train_file and eval_file
  std::optional<std::int64_t> max_samples;  ///< of each file, from its first on

  std::string dtype = "bfloat16";  ///< or "float32"
  std::string storage = "dense";   ///< or "nf4", "int8"
  std::vector<std::string> quantize_skip;
  bool quantize_embeddings = false;      ///< in int8
  std::string device = "cpu";            ///< "cpu", "cuda", "cuda:N" or "auto"
  std::string embeddings_on = "device";  ///< where the per-layer embeddings lie, or "host"
  std::optional<std::int64_t> threads;

  lora::LoraConfig lora;
  std::string init_adapter;
  std::vector<std::string> add_tokens;
  std::vector<std::string> add_special_tokens;
  std::vector<data::AddedToken> new_tokens;  ///< with their ids: what settle_new_tokens made of both; no setting

  PreferenceConfig preference;

  double learning_rate = 2e-4;
  std::optional<double> loraplus_lr_ratio;  ///< see train/loraplus.h
  double loraplus_lr_embedding = 1e-6;
  ScheduleKind lr_scheduler = ScheduleKind::kCosine;
  ScheduleOptions lr_scheduler_kwargs;
  std::optional<double> warmup_ratio;        ///< nothing: 0.03 from ten updates on, else no warm-up
  std::optional<std::int64_t> warmup_steps;  ///< counts before warmup_ratio
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  OptimizerOptions optim_args;
  std::vector<RateGroup> lr_groups;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;  ///< 0: no clipping

  std::int64_t micro_batch_size = 1;
  std::int64_t gradient_accumulation_steps = 4;   ///< of each process
  std::optional<std::int64_t> global_batch_size;  ///< samples an update, over all processes; counts before it
  std::string reduce_dtype = "float32";           ///< or "bfloat16": in which gradients travel between processes
  std::int64_t max_seq_length = 2048;
  double num_train_epochs = 1.0;
  std::optional<std::int64_t> max_steps;  ///< updates; counts before num_train_epochs
  std::optional<bool> packing;            ///< nothing: where no sample has media
  std::optional<bool> share_prefixes;     ///< nothing: where it pays; see train/prefix_plan.h
  bool shuffle = true;
  std::int64_t seed = 42;
  std::optional<bool> gradient_checkpointing;  ///< nothing: chosen by the trainer
  double neftune_noise_alpha = 0.0;            ///< 0: no noise
  double label_smoothing_factor = 0.0;

  bool train_on_inputs = false;
  bool mask_history = false;
  std::string chat_template;         ///< a file; empty: the checkpoint's own
  std::string chat_format = "auto";  ///< or "edge" (E2B, E4B), "large", "gemma3": no template is run
  std::optional<std::int64_t> max_soft_tokens;
  std::string image_attention;  ///< "all_layers" or "sliding_layers"; empty: the model's
  data::VideoChoice video;      ///< video_frames, video_fps, video_soft_tokens
  bool skip_bad_samples = false;
  std::int64_t dataloader_num_workers = 1;  ///< 0: samples are read between steps
  double data_timeout_s = 300.0;            ///< for one sample, in a worker; 0: for ever
  std::optional<bool> cache_soft_tokens;    ///< nothing: where samples come more than once
  std::string cache_dir;                    ///< empty: "cache" in output_dir
  double cache_limit_gb = 4.0;

  double val_set_size = 0.0;         ///< below 1: share of the samples; else their number
  std::string eval_strategy;         ///< "no", "steps" or "epoch"
  double eval_delay = 0.0;           ///< before the first evaluation: epochs by eval_strategy epoch, else updates
  std::optional<double> eval_steps;  ///< below 1: share of all updates; nothing: once an epoch
  std::optional<std::int64_t> evals_per_epoch;  ///< in place of eval_steps
  std::string logging_strategy;
  double logging_steps = 1;
  bool log_samples = false;                ///< which samples each update had goes into samples.jsonl
  bool eval_generate = false;              ///< held-out samples are answered as well
  std::int64_t eval_max_new_tokens = 128;  ///< of such an answer
  BestMetric metric_for_best_model = BestMetric::kLoss;
  std::optional<bool> greater_is_better;                ///< as the metric has it, or nothing
  std::optional<std::int64_t> early_stopping_patience;  ///< evaluations in a row without gain
  double early_stopping_threshold = 0.0;
  bool load_best_model_at_end = false;
  std::string save_strategy;                    ///< or "best"
  double save_steps = 100;                      ///< 0: only at the end
  std::optional<std::int64_t> saves_per_epoch;  ///< in place of save_steps
  std::int64_t save_total_limit = 3;            ///< 0: keep all
  std::int64_t sample_predictions = 3;          ///< 0: none
  std::vector<std::string> report_to = {"jsonl", "tensorboard", "html"};
  std::string resume_from_checkpoint;
  bool force_resume = false;

  /// What the config's keys of other tools do here, for the user to read; no setting.
  std::vector<std::string> notes;
};

/// Micro-batches of an update, over all processes, of a config whose global_batch_size is set where there are several.
inline std::int64_t micro_batches(const TrainConfig& config) {
  return config.global_batch_size ? *config.global_batch_size / config.micro_batch_size
                                  : config.gradient_accumulation_steps;
}

/// One key of a config, as --help, hints and docs/REFERENCE.md show it.
struct ConfigKey {
  std::string_view name;
  std::string_view aliases;   ///< names of other tools, separated by spaces
  std::string_view type;      ///< "text", "whole", "number", "true|false", "list" …
  std::string_view fallback;  ///< the default in words
  std::string_view help;
  bool is_switch = false;  ///< a flag of this key needs no value
};

/// All keys, in the order of the documentation.
std::span<const ConfigKey> config_keys();

/// `--key value` as given; `flag` is how it was written.
struct Override {
  std::string flag;
  std::string key;
  std::string value;
};

/// Splits `--key value`, `--key=value` and a bare `--switch`. '-' and '_' in keys are the same.
/// Throws Error (kConfig) for an argument that is no flag and a value that is missing.
std::vector<Override> parse_overrides(const std::vector<std::string>& arguments);

/// Defaults, then the YAML file `path` ("" for none), then `overrides`; checked. "~" in paths is the home folder.
/// Throws Error (kConfig) naming file, line and key of all that is wrong: unknown keys (with the nearest ones), keys of
/// other tools that would change what is learnt (foreign_keys.h), values that contradict each other, wrong types,
/// values out of range. Throws Error (kIo) when the file cannot be read.
TrainConfig read_train_config(const std::string& path, const std::vector<Override>& overrides = {});

/// The same from text; `source` names it in errors. Checks ranges only with `require_paths` false.
TrainConfig parse_train_config(std::string_view yaml, const std::string& source,
                               const std::vector<Override>& overrides = {}, bool require_paths = true);

/// The whole config as YAML that read_train_config reads back to an equal one.
std::string to_yaml(const TrainConfig& config);

/// The key or alias nearest to `name`, or "" when none is near.
std::string nearest_key(std::string_view name);

}  // namespace bezel::train
