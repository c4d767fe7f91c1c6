#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/lora/config.h"
#include "bezel/train/schedule.h"

namespace bezel::train {

/// Everything a training run is told. `config_keys()` says what each key means; an empty text means "not given".
struct TrainConfig {
  std::string base_model;
  std::string output_dir;
  std::string train_file;
  std::string eval_file;
  std::string media_root;

  std::string dtype = "bfloat16";  ///< or "float32"
  std::string storage = "dense";   ///< or "nf4", "int8"
  std::vector<std::string> quantize_skip;
  bool quantize_embeddings = false;  ///< in int8
  std::string device = "cpu";        ///< "cpu", "cuda", "cuda:N" or "auto"
  std::optional<std::int64_t> threads;

  lora::LoraConfig lora;
  std::string init_adapter;

  double learning_rate = 2e-4;
  ScheduleKind lr_scheduler = ScheduleKind::kCosine;
  std::optional<double> warmup_ratio;        ///< nothing: 0.03 from ten updates on, else no warm-up
  std::optional<std::int64_t> warmup_steps;  ///< counts before warmup_ratio
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;  ///< 0: no clipping

  std::int64_t micro_batch_size = 1;
  std::int64_t gradient_accumulation_steps = 4;
  std::int64_t max_seq_length = 2048;
  double num_train_epochs = 1.0;
  std::optional<std::int64_t> max_steps;  ///< updates; counts before num_train_epochs
  std::optional<bool> packing;            ///< nothing: where no sample has media
  bool shuffle = true;
  std::int64_t seed = 42;
  std::optional<bool> gradient_checkpointing;  ///< nothing: chosen by the trainer

  bool train_on_inputs = false;
  bool mask_history = false;
  std::string chat_template;         ///< a file; empty: the checkpoint's own
  std::string chat_format = "auto";  ///< or "edge" (E2B, E4B), "large", "gemma3": no template is run
  std::optional<std::int64_t> max_soft_tokens;
  bool skip_bad_samples = false;
  std::int64_t dataloader_num_workers = 1;  ///< 0: samples are read between steps
  double data_timeout_s = 300.0;            ///< for one sample, in a worker; 0: for ever
  std::optional<bool> cache_soft_tokens;    ///< nothing: where samples come more than once
  std::string cache_dir;                    ///< empty: "cache" in output_dir
  double cache_limit_gb = 4.0;

  double val_set_size = 0.0;               ///< below 1: share of the samples; else their number
  std::optional<std::int64_t> eval_steps;  ///< nothing: once an epoch
  std::int64_t logging_steps = 1;
  std::int64_t save_steps = 100;        ///< 0: only at the end
  std::int64_t save_total_limit = 3;    ///< 0: keep all
  std::int64_t sample_predictions = 3;  ///< 0: none
  std::vector<std::string> report_to = {"jsonl", "tensorboard", "html"};
  std::string resume_from_checkpoint;
  bool force_resume = false;
};

/// One key of a config, as --help, hints and docs/REFERENCE.md show it.
struct ConfigKey {
  std::string_view name;
  std::string_view aliases;   ///< names of other tools, with spaces between them; "" for none
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
/// Throws Error (kConfig) for an argument that is no flag, a value that is missing and all unknown keys at once.
std::vector<Override> parse_overrides(const std::vector<std::string>& arguments);

/// Defaults, then the YAML file `path` ("" for none), then `overrides`; checked. Throws Error (kConfig) naming file,
/// line and key: all unknown keys (with the nearest ones), keys given twice, wrong types, values out of range, keys
/// that contradict each other, and what is known by name and not built yet. Throws Error (kIo) when the file cannot be
/// read.
TrainConfig read_train_config(const std::string& path, const std::vector<Override>& overrides = {});

/// The same from text; `source` names it in errors. Checks ranges only with `require_paths` false.
TrainConfig parse_train_config(std::string_view yaml, const std::string& source,
                               const std::vector<Override>& overrides = {}, bool require_paths = true);

/// The whole config as YAML that read_train_config reads back to an equal one.
std::string to_yaml(const TrainConfig& config);

/// The key or alias nearest to `name`, or "" when none is near.
std::string nearest_key(std::string_view name);

/// Where the samples are.
struct DataFiles {
  std::string train;
  std::string eval;        ///< "" for none
  std::string media_root;  ///< the folder of `train` unless told otherwise
};

/// Resolves a folder given as train_file to its train file and, without eval_file and val_set_size, its held-out file;
/// see data::find_folder_files. Throws Error (kConfig) when there is none, or more than one.
DataFiles find_data_files(const TrainConfig& config);

}  // namespace bezel::train
