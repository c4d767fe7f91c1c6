#include <algorithm>
#include <cmath>

#include "bezel/error.h"
#include "bezel/train/config_binding.h"

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

void check_optimizer(const TrainConfig& config, const Checker& check) {
  check.range("learning_rate", config.learning_rate, 0.0, 10.0);
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

void check_loop(const TrainConfig& config, const Checker& check) {
  check.range<std::int64_t>("micro_batch_size", config.micro_batch_size, 1, 65536);
  check.range<std::int64_t>("gradient_accumulation_steps", config.gradient_accumulation_steps, 1, 1'000'000);
  check.range<std::int64_t>("max_seq_length", config.max_seq_length, 2, 1 << 20);
  if (!(config.num_train_epochs > 0 && config.num_train_epochs <= 1e6))
    check.fail("num_train_epochs", config.num_train_epochs, " lies outside 0 … 1e6");
  if (config.max_steps) check.count("max_steps", *config.max_steps, 1);
  check.range<std::int64_t>("seed", config.seed, 0, std::int64_t{1} << 53);
  if (config.threads) check.range<std::int64_t>("threads", *config.threads, 1, 4096);
  check.count("logging_steps", config.logging_steps, 1);
  check.count("save_steps", config.save_steps, 0);
  check.count("save_total_limit", config.save_total_limit, 0);
  check.range<std::int64_t>("sample_predictions", config.sample_predictions, 0, 1000);
}

void check_data(const TrainConfig& config, const Checker& check) {
  check.range("val_set_size", config.val_set_size, 0.0, 1e9);
  if (config.val_set_size >= 1 && config.val_set_size != std::floor(config.val_set_size))
    check.fail("val_set_size", config.val_set_size, " is neither a share below 1 nor a whole number");
  if (config.val_set_size > 0 && !config.eval_file.empty())
    check.fail("val_set_size", "eval_file is given as well; keep one");
  if (config.eval_steps) check.count("eval_steps", *config.eval_steps, 1);
  check.range<std::int64_t>("dataloader_num_workers", config.dataloader_num_workers, 0, 64);
  check.range("data_timeout", config.data_timeout_s, 0.0, 1e6);
  check.one_of("chat_format", config.chat_format, {"auto", "edge", "large", "gemma3"});
  if (!config.chat_template.empty() && config.chat_format != "auto")
    check.fail("chat_format", "chat_template is given as well; keep one");
  if (config.train_on_inputs && config.mask_history)
    check.fail("mask_history", "contradicts train_on_inputs: loss falls on the last answer, or on everything");
  check.range("cache_limit_gb", config.cache_limit_gb, 0.0, 1e6);
  if (!config.max_soft_tokens) return;
  const std::int64_t allowed[] = {70, 140, 280, 560, 1120};
  if (std::ranges::find(allowed, *config.max_soft_tokens) == std::end(allowed))
    check.fail("max_soft_tokens", "got ", *config.max_soft_tokens, ", expected one of: 70, 140, 280, 560, 1120");
}

void check_device(const TrainConfig& config, const Checker& check) {
  check.one_of("dtype", config.dtype, {"bfloat16", "float32"});
  const bool numbered =
      config.device.size() > 5 && config.device.size() < 8 && config.device.starts_with("cuda:") &&
      std::all_of(config.device.begin() + 5, config.device.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!numbered) check.one_of("device", config.device, {"cpu", "cuda", "auto"});
}

}  // namespace

void check_train_config(const TrainConfig& config, const std::string& source, bool require_paths) {
  const Checker check(source);
  if (require_paths) {
    if (config.base_model.empty()) check.fail("base_model", "missing: name the folder of the checkpoint");
    if (config.output_dir.empty()) check.fail("output_dir", "missing: name the folder for the adapter");
    if (config.train_file.empty()) check.fail("train_file", "missing: name the JSONL file with the samples");
  }
  try {
    config.lora.check();
  } catch (const Error& error) {
    throw Error(ErrorKind::kConfig, source, ": ", error.what());
  }
  check_device(config, check);
  check_optimizer(config, check);
  check_loop(config, check);
  check_data(config, check);
}

}  // namespace bezel::train
