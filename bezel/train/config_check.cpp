#include <algorithm>
#include <cmath>

#include "bezel/error.h"
#include "bezel/train/config_binding.h"
#include "bezel/train/config_fields.h"
#include "bezel/train/config_readers.h"
#include "bezel/train/intervals.h"
#include "bezel/train/preference_keys.h"
#include "bezel/train/prefix_obstacle.h"

namespace bezel::train {
namespace {

// Counts beyond this are typing errors, and products of two still fit 64 bits.
constexpr std::int64_t kMaxCount = 1'000'000'000;

class Checker {
 public:
  explicit Checker(const std::string& source) : source_(&source) {}

  template <typename T>
  void range(std::string_view key, T value, T min, T max) const {
    if (!(value >= min && value <= max)) fail(key, value, " lies outside ", min, " … ", max);
  }

  void count(std::string_view key, std::int64_t value, std::int64_t min) const { range(key, value, min, kMaxCount); }

  void one_of(std::string_view key, const std::string& value, std::initializer_list<std::string_view> allowed) const {
    if (std::ranges::find(allowed, value) != allowed.end()) return;
    std::string list;
    for (const std::string_view item : allowed) list += (list.empty() ? "" : ", ") + std::string(item);
    fail(key, "got '", value, "', expected one of: ", list);
  }

  template <typename... Parts>
  [[noreturn]] void fail(std::string_view key, const Parts&... parts) const {
    throw Error(ErrorKind::kConfig, *source_, ": key '", key, "': ", parts...);
  }

 private:
  const std::string* source_;
};

void check_options(const ScheduleOptions& options, const Checker& check) {
  const auto in_range = [&](std::string_view name, const std::optional<double>& value, double min, double max) {
    if (value) check.range(name, *value, min, max);
  };
  in_range("num_cycles", options.num_cycles, 0.0, 1e6);
  in_range("min_lr", options.min_lr, 0.0, 10.0);
  in_range("min_lr_rate", options.min_lr_rate, 0.0, 1.0);
  in_range("warmup_lr_rate", options.warmup_lr_rate, 0.0, 1.0);
  in_range("lr_end", options.lr_end, 0.0, 10.0);
  in_range("power", options.power, 0.0, 100.0);
  in_range("min_lr_ratio", options.min_lr_ratio, 0.0, 1.0);
  if (options.timescale) check.count("timescale", *options.timescale, 1);
  if (options.num_stable_steps) check.count("num_stable_steps", *options.num_stable_steps, 0);
  if (options.num_decay_steps) check.count("num_decay_steps", *options.num_decay_steps, 0);
  for (const auto& [key, type] : {std::pair("warmup_type", &options.warmup_type), {"decay_type", &options.decay_type}})
    if (!type->empty()) check.one_of(key, *type, {"linear", "cosine", "1-sqrt"});
}

void check_optimizer(const TrainConfig& config, const Checker& check) {
  check.range("learning_rate", config.learning_rate, 0.0, 10.0);
  if (config.loraplus_lr_ratio) check.range("loraplus_lr_ratio", *config.loraplus_lr_ratio, 0.0, 1e6);
  check.range("loraplus_lr_embedding", config.loraplus_lr_embedding, 0.0, 10.0);
  if (config.warmup_ratio) check.range("warmup_ratio", *config.warmup_ratio, 0.0, 1.0);
  if (config.warmup_steps) check.count("warmup_steps", *config.warmup_steps, 0);
  if (config.lr_scheduler == ScheduleKind::kConstant &&
      (config.warmup_ratio.value_or(0) > 0 || config.warmup_steps.value_or(0) > 0))
    check.fail(config.warmup_steps ? "warmup_steps" : "warmup_ratio",
               "lr_scheduler: constant has no warm-up; write constant_with_warmup, or delete this key");
  check.range("weight_decay", config.weight_decay, 0.0, 10.0);
  check.range("adam_beta1", config.adam_beta1, 0.0, std::nextafter(1.0, 0.0));
  check.range("adam_beta2", config.adam_beta2, 0.0, std::nextafter(1.0, 0.0));
  check.range("adam_epsilon", config.adam_epsilon, 0.0, 1.0);
  check.range("max_grad_norm", config.max_grad_norm, 0.0, 1e12);
}

std::string joined(std::span<const std::string_view> names) {
  std::string list;
  for (const std::string_view name : names) list.append(list.empty() ? "" : ", ").append(name);
  return list;
}

// Every option that is given must be one that `chosen` takes.
void check_options(const Checker& check, std::string_view key, const std::string& chosen, const GivenOptions& given,
                   std::span<const std::string_view> taken) {
  for (const std::string& option : given.names())
    if (std::ranges::find(taken, option) == taken.end())
      check.fail(key, chosen, " takes no ", option, "; ", taken.empty() ? "delete it" : "it takes " + joined(taken));
}

void check_optim_args(const TrainConfig& config, const Checker& check) {
  const OptimizerOptions& options = config.optim_args;
  check_options(check, "optim_args", "optimizer: " + write_optimizer(config), given(options),
                options_of(config.optimizer));
  if (options.min_8bit_size) check.count("min_8bit_size", *options.min_8bit_size, 1);
  if (options.clip_threshold) check.range("clip_threshold", *options.clip_threshold, 1e-6, 1e6);
  if (options.decay_rate) check.range("decay_rate", *options.decay_rate, -10.0, 0.0);
  if (options.beta1) check.range("beta1", *options.beta1, 0.0, std::nextafter(1.0, 0.0));
  if (options.momentum) check.range("momentum", *options.momentum, 0.0, std::nextafter(1.0, 0.0));
  if (options.ns_steps) check.range<std::int64_t>("ns_steps", *options.ns_steps, 1, 99);
  if (!options.adjust_lr_fn.empty())
    check.one_of("adjust_lr_fn", options.adjust_lr_fn, {"match_rms_adamw", "original"});
  for (const RateGroup& group : config.lr_groups) check.range("lr_groups", group.learning_rate, 0.0, 10.0);
  if (!config.lr_groups.empty() && config.learning_rate == 0)
    check.fail("lr_groups", "their rates follow the schedule of learning_rate, which is 0");
}

// transformers passes over them.
void check_adam_keys(const TrainConfig& config, const Checker& check) {
  const TrainConfig defaults;
  const bool is_adafactor = config.optimizer == OptimizerKind::kAdafactor;
  const auto refuse = [&](std::string_view key, double value, double fallback) {
    if (value != fallback) check.fail(key, "optimizer: ", write_optimizer(config), " has none; delete it");
  };
  if (is_adafactor) refuse("adam_beta1", config.adam_beta1, defaults.adam_beta1);
  if (is_adafactor) refuse("adam_beta2", config.adam_beta2, defaults.adam_beta2);
  if (is_adafactor || config.optimizer == OptimizerKind::kLion)
    refuse("adam_epsilon", config.adam_epsilon, defaults.adam_epsilon);
}

void check_stopping(const TrainConfig& config, const Checker& check) {
  const BestMetric metric = config.metric_for_best_model;
  if (config.greater_is_better && *config.greater_is_better != is_greater_better(metric))
    check.fail("greater_is_better", metric_name(metric), " is better when it is ",
               is_greater_better(metric) ? "greater; write true" : "less; write false", ", or delete it");
  if (metric == BestMetric::kExactMatch && !config.eval_generate)
    check.fail("metric_for_best_model", "eval_exact_match is measured with eval_generate: true alone");
  if (config.early_stopping_patience) check.count("early_stopping_patience", *config.early_stopping_patience, 1);
  check.range("early_stopping_threshold", config.early_stopping_threshold, 0.0, 1e9);
  if (config.early_stopping_threshold > 0 && !config.early_stopping_patience)
    check.fail("early_stopping_threshold", "needs early_stopping_patience, such as 3");
  check.range("eval_delay", config.eval_delay, 0.0, 1e9);
  check.range<std::int64_t>("eval_max_new_tokens", config.eval_max_new_tokens, 1, 65536);

  const bool by_best = config.save_strategy == "best";
  const std::string_view needs_evaluation = key_needing_evaluation(config);
  if (!needs_evaluation.empty() && (config.eval_strategy == "no" || config.evals_per_epoch == 0))
    check.fail(needs_evaluation, "needs evaluations; write eval_strategy: steps or epoch");
  const bool saves = by_best || (config.saves_per_epoch ? *config.saves_per_epoch > 0 : config.save_steps > 0);
  if (config.load_best_model_at_end && (!saves || config.save_strategy == "no"))
    check.fail("load_best_model_at_end", "needs checkpoints; write save_strategy: best, steps or epoch");
}

// Which options a schedule takes, and what they may be, as transformers checks it.
void check_schedule(const TrainConfig& config, const Checker& check) {
  const ScheduleOptions& options = config.lr_scheduler_kwargs;
  const ScheduleKind kind = config.lr_scheduler;
  const std::string name = show(kind);
  check_options(check, "lr_scheduler_kwargs", "lr_scheduler: " + name, given(options), options_of(kind));
  const bool has_floor = kind == ScheduleKind::kCosineWithMinLr || kind == ScheduleKind::kCosineWarmupWithMinLr;
  if (has_floor && options.min_lr.has_value() == options.min_lr_rate.has_value())
    check.fail("lr_scheduler_kwargs", name, " needs min_lr (a learning rate) or min_lr_rate (a share of it), ",
               options.min_lr ? "not both" : "such as {min_lr_rate: 0.1}");
  if (kind == ScheduleKind::kWarmupStableDecay && !options.num_decay_steps)
    check.fail("lr_scheduler_kwargs", name, " needs num_decay_steps, such as {num_decay_steps: 100}");
  if (kind == ScheduleKind::kPolynomial && options.lr_end.value_or(1e-7) >= config.learning_rate)
    check.fail("lr_scheduler_kwargs", "lr_end ", options.lr_end.value_or(1e-7), " is not below learning_rate ",
               config.learning_rate);
  check_options(options, check);
}

// Updates from 1, or a share of all updates below 1.
void check_steps(std::string_view key, double value, bool may_be_zero, const Checker& check) {
  if (may_be_zero && value == 0) return;
  if (!(value > 0 && value <= static_cast<double>(kMaxCount)) || (value >= 1 && value != std::floor(value)))
    check.fail(key, "got ", value, ", expected a whole number of updates", may_be_zero ? " (0: only at the end)" : "",
               ", or a share of them below 1");
}

// What is drawn anew for each sample cannot be computed once for several.
void check_sharing(const TrainConfig& config, const Checker& check) {
  if (!config.share_prefixes.value_or(false)) return;
  if (const std::string obstacle = prefix_obstacle(config); !obstacle.empty())
    check.fail("share_prefixes", obstacle, "; set it to 0, or write share_prefixes: auto");
}

void check_loop(const TrainConfig& config, const Checker& check) {
  check_sharing(config, check);
  check.range<std::int64_t>("micro_batch_size", config.micro_batch_size, 1, 65536);
  check.range<std::int64_t>("gradient_accumulation_steps", config.gradient_accumulation_steps, 1, 1'000'000);
  if (config.global_batch_size) {
    check.range<std::int64_t>("global_batch_size", *config.global_batch_size, 1, std::int64_t{1} << 36);
    if (*config.global_batch_size % config.micro_batch_size != 0)
      check.fail("global_batch_size", *config.global_batch_size, " is no multiple of micro_batch_size ",
                 config.micro_batch_size);
  }
  check.range<std::int64_t>("max_seq_length", config.max_seq_length, 2, 1 << 20);
  if (!(config.num_train_epochs > 0 && config.num_train_epochs <= 1e6))
    check.fail("num_train_epochs", config.num_train_epochs, " lies outside 0 … 1e6");
  if (config.max_steps) check.count("max_steps", *config.max_steps, 1);
  check.range("neftune_noise_alpha", config.neftune_noise_alpha, 0.0, 1e6);
  check.range("label_smoothing_factor", config.label_smoothing_factor, 0.0, std::nextafter(1.0, 0.0));
  check.range<std::int64_t>("seed", config.seed, 0, std::int64_t{1} << 53);
  if (config.threads) check.range<std::int64_t>("threads", *config.threads, 1, 4096);
  check_steps("logging_steps", config.logging_steps, false, check);
  check_steps("save_steps", config.save_steps, true, check);
  if (config.evals_per_epoch) check.count("evals_per_epoch", *config.evals_per_epoch, 0);
  if (config.saves_per_epoch) check.count("saves_per_epoch", *config.saves_per_epoch, 0);
  check.count("save_total_limit", config.save_total_limit, 0);
  check.range<std::int64_t>("sample_predictions", config.sample_predictions, 0, 1000);
}

void check_budget(const char* key, const std::optional<std::int64_t>& soft_tokens, const Checker& check) {
  const std::int64_t allowed[] = {70, 140, 280, 560, 1120};
  if (soft_tokens && std::ranges::find(allowed, *soft_tokens) == std::end(allowed))
    check.fail(key, "got ", *soft_tokens, ", expected one of: 70, 140, 280, 560, 1120");
}

void check_media(const TrainConfig& config, const Checker& check) {
  check_budget("max_soft_tokens", config.max_soft_tokens, check);
  check_budget("video_soft_tokens", config.video.soft_tokens, check);
  if (config.video.num_frames) check.count("video_frames", *config.video.num_frames, 1);
  if (config.video.fps) check.range("video_fps", *config.video.fps, 1e-6, 1000.0);
  if (config.video.num_frames && config.video.fps) check.fail("video_fps", "video_frames is given as well; keep one");
}

void check_data(const TrainConfig& config, const Checker& check) {
  check.range("val_set_size", config.val_set_size, 0.0, 1e9);
  if (config.val_set_size >= 1 && config.val_set_size != std::floor(config.val_set_size))
    check.fail("val_set_size", config.val_set_size, " is neither a share below 1 nor a whole number");
  const bool has_eval = !config.eval_file.empty() || !config.test_datasets.empty() || !config.eval_dataset.empty();
  if (config.val_set_size > 0 && has_eval)
    check.fail("val_set_size", config.eval_file.empty() ? "a data set" : "eval_file",
               " for evaluation is given as well; keep one");
  if (config.eval_steps) check_steps("eval_steps", *config.eval_steps, false, check);
  if (config.max_samples) check.count("max_samples", *config.max_samples, 1);
  check.range<std::int64_t>("dataloader_num_workers", config.dataloader_num_workers, 0, 64);
  check.range("data_timeout", config.data_timeout_s, 0.0, 1e6);
  check.one_of("image_attention", config.image_attention, {"", "all_layers", "sliding_layers"});
  check.one_of("chat_format", config.chat_format, {"auto", "edge", "large", "gemma3"});
  if (!config.chat_template.empty() && config.chat_format != "auto")
    check.fail("chat_format", "chat_template is given as well; keep one");
  if (config.train_on_inputs && config.mask_history)
    check.fail("mask_history", "contradicts train_on_inputs: loss falls on the last answer, or on everything");
  check.range("cache_limit_gb", config.cache_limit_gb, 0.0, 1e6);
  check_media(config, check);
}

void check_device(const TrainConfig& config, const Checker& check) {
  check.one_of("dtype", config.dtype, {"bfloat16", "float32"});
  const bool numbered =
      config.device.size() > 5 && config.device.size() < 8 && config.device.starts_with("cuda:") &&
      std::all_of(config.device.begin() + 5, config.device.end(), [](char c) { return c >= '0' && c <= '9'; });
  check.one_of("embeddings_on", config.embeddings_on, {"device", "host"});
  if (!numbered) check.one_of("device", config.device, {"cpu", "cuda", "auto", "privateuseone"});
}

}  // namespace

void check_train_config(const TrainConfig& config, const std::string& source, bool require_paths) {
  const Checker check(source);
  if (require_paths) {
    std::string missing;
    const auto require = [&](bool given, std::string_view key, std::string_view what) {
      if (!given)
        missing.append(missing.empty() ? "" : "; ").append("key '").append(key).append("': missing: ").append(what);
    };
    require(!config.base_model.empty(), "base_model", "name the folder of the checkpoint");
    require(!config.output_dir.empty(), "output_dir", "name the folder for the adapter");
    require(!config.train_file.empty() || !config.datasets.empty() || !config.dataset.empty(), "train_file",
            "name the JSONL file with the samples");
    if (!missing.empty()) throw Error(ErrorKind::kConfig, source, ": ", missing);
  }
  try {
    config.lora.check();
  } catch (const Error& error) {
    throw Error(ErrorKind::kConfig, source, ": ", error.what());
  }
  check_device(config, check);
  check_optimizer(config, check);
  check_optim_args(config, check);
  check_adam_keys(config, check);
  check_stopping(config, check);
  check_schedule(config, check);
  check_loop(config, check);
  check_data(config, check);
  check_preferences(config, source);
}

}  // namespace bezel::train
