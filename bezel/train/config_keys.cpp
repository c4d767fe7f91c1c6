#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

#include "bezel/train/config_binding.h"

namespace bezel::train {
namespace {

using Read = void (*)(TrainConfig&, const ConfigValue&);
using Write = std::string (*)(const TrainConfig&);

void assign(std::string& field, const ConfigValue& value) { field = value.as_text(); }
void assign(std::int64_t& field, const ConfigValue& value) { field = value.as_whole(); }
void assign(double& field, const ConfigValue& value) { field = value.as_number(); }
void assign(bool& field, const ConfigValue& value) { field = value.as_bool(); }

void assign(std::vector<std::string>& field, const ConfigValue& value) { field = value.as_texts(); }
template <typename T>
void assign(std::optional<T>& field, const ConfigValue& value) {
  assign(field.emplace(), value);
}

// In the order of ScheduleKind.
constexpr std::string_view kSchedules[] = {"cosine", "linear", "constant", "constant_with_warmup"};

void assign(ScheduleKind& field, const ConfigValue& value) {
  const auto* const name = std::ranges::find(kSchedules, value.as_text());
  if (name == std::end(kSchedules)) value.fail("cosine, linear, constant or constant_with_warmup");
  field = static_cast<ScheduleKind>(name - kSchedules);
}

void assign(std::vector<lora::Tower>& field, const ConfigValue& value) {
  field.clear();
  for (const std::string& name : value.as_texts()) {
    const auto* const tower =
        std::ranges::find_if(lora::kTowers, [&](lora::Tower tower) { return lora::tower_name(tower) == name; });
    if (tower == std::end(lora::kTowers)) value.fail("a list of language, vision, audio, projectors");
    if (std::ranges::find(field, *tower) == field.end()) field.push_back(*tower);
  }
}

bool is_plain_names(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == ',' || c == ' ';
  });
}

// A name without any sign of a regex would, as a full match, find nothing: take it as the list that is meant.
void assign(lora::ModulePattern& field, const ConfigValue& value) {
  if (value.kind == ConfigValue::Kind::kScalar && value.as_text() == "all")
    field = lora::ModulePattern::from_text("all-linear");
  else if (value.kind == ConfigValue::Kind::kScalar && !is_plain_names(value.as_text()))
    field = lora::ModulePattern::from_text(value.as_text());
  else if (std::vector<std::string> names = value.as_texts(); names == std::vector<std::string>{"all-linear"})
    field = lora::ModulePattern::from_text("all-linear");
  else
    field = lora::ModulePattern::from_names(std::move(names));
}

template <typename T>
void assign(std::vector<std::pair<std::string, T>>& field, const ConfigValue& value) {
  if (value.kind != ConfigValue::Kind::kMap) value.fail("a map from module names to numbers");
  field.clear();
  for (const auto& [name, number] : value.members) {
    T parsed{};
    assign(parsed, number);
    field.emplace_back(name, parsed);
  }
}

std::string show(const std::string& text) {
  if (text.empty()) return "null";
  std::string out = "\"";
  for (const char c : text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += std::string("\\x") + kHex[static_cast<unsigned char>(c) >> 4] + kHex[c & 15];
    else
      out += c;
  }
  return out + "\"";
}

std::string show(std::int64_t value) { return std::to_string(value); }
std::string show(bool value) { return value ? "true" : "false"; }

std::string show(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::string text(buffer, end);
  // YAML 1.1 readers take "2e-05" for text; with a point it is a number to all of them.
  const auto exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return text;
}

template <typename T>
std::string show(const std::optional<T>& value) {
  return value ? show(*value) : "null";
}

std::string show(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? ", " : "") + show(text);
  return out + "]";
}

std::string show(ScheduleKind kind) { return std::string(kSchedules[static_cast<std::size_t>(kind)]); }

std::string show(const std::vector<lora::Tower>& towers) {
  std::string out = "[";
  for (const lora::Tower tower : towers) out += (out.size() > 1 ? ", " : "") + std::string(lora::tower_name(tower));
  return out + "]";
}

std::string show(const lora::ModulePattern& pattern) {
  switch (pattern.kind) {
    case lora::ModulePattern::Kind::kNames:
      return show(pattern.names);
    case lora::ModulePattern::Kind::kRegex:
      return show(pattern.regex);
    case lora::ModulePattern::Kind::kAllLinear:
      return "all-linear";
    case lora::ModulePattern::Kind::kDefault:
      break;
  }
  return "null";
}

template <typename T>
std::string show(const std::vector<std::pair<std::string, T>>& map) {
  std::string out = "{";
  for (const auto& [name, value] : map) out += (out.size() > 1 ? ", " : "") + show(name) + ": " + show(value);
  return out + "}";
}

template <auto Field>
void read(TrainConfig& config, const ConfigValue& value) {
  assign(config.*Field, value);
}
template <auto Field>
std::string write(const TrainConfig& config) {
  return show(config.*Field);
}
template <auto Field>
void read_lora(TrainConfig& config, const ConfigValue& value) {
  assign(config.lora.*Field, value);
}
template <auto Field>
std::string write_lora(const TrainConfig& config) {
  return show(config.lora.*Field);
}

// true, false, or auto: left to the run.
template <auto Field>
void read_auto(TrainConfig& config, const ConfigValue& value) {
  if (value.text == "auto")
    (config.*Field).reset();
  else
    config.*Field = value.as_bool();
}
template <auto Field>
std::string write_auto(const TrainConfig& config) {
  return config.*Field ? show(*(config.*Field)) : "auto";
}

// -1 is how other tools write "not given".
void read_max_steps(TrainConfig& config, const ConfigValue& value) {
  const std::int64_t steps = value.as_whole();
  if (steps == -1)
    config.max_steps.reset();
  else
    config.max_steps = steps;
}

// true and false are how TRL and axolotl say auto and none.
void read_resume(TrainConfig& config, const ConfigValue& value) {
  config.resume_from_checkpoint = value.as_text();
  if (config.resume_from_checkpoint == "true") config.resume_from_checkpoint = "auto";
  if (config.resume_from_checkpoint == "none" || config.resume_from_checkpoint == "false")
    config.resume_from_checkpoint.clear();
}

void read_report_to(TrainConfig& config, const ConfigValue& value) {
  constexpr std::string_view kKnown[] = {"jsonl", "tensorboard", "html"};
  config.report_to = value.as_texts();
  if (config.report_to == std::vector<std::string>{"all"})
    config.report_to.assign(std::begin(kKnown), std::end(kKnown));
  std::erase(config.report_to, "none");
  for (const std::string& name : config.report_to)
    if (std::ranges::find(kKnown, name) == std::end(kKnown)) value.fail("jsonl, tensorboard, html, or none");
}

void read_storage(TrainConfig& config, const ConfigValue& value) {
  config.storage = value.as_text();
  if (config.storage != "dense" && config.storage != "nf4" && config.storage != "int8")
    value.fail("dense, nf4 or int8");
}

void read_load_in_4bit(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.storage = "nf4";
}

void read_load_in_8bit(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.storage = "int8";
}

void read_quantize_embeddings(TrainConfig& config, const ConfigValue& value) {
  if (value.as_text() != "int8" && value.as_text() != "none") value.fail("none or int8");
  config.quantize_embeddings = value.as_text() == "int8";
}

std::string write_quantize_embeddings(const TrainConfig& config) {
  return config.quantize_embeddings ? "int8" : "none";
}

void read_bf16(TrainConfig& config, const ConfigValue& value) {
  config.dtype = value.text == "auto" || value.as_bool() ? "bfloat16" : "float32";
}

// qlora is how axolotl asks for LoRA over 4 bits.
void read_adapter_kind(TrainConfig& config, const ConfigValue& value) {
  if (value.as_text() == "qlora")
    config.storage = "nf4";
  else if (value.as_text() != "lora")
    value.fail("lora or qlora; others are not built yet");
}

void read_optimizer(TrainConfig&, const ConfigValue& value) {
  const std::string name = value.as_text();
  if (name != "adamw" && name != "adamw_torch" && name != "adamw_torch_fused") value.fail("adamw");
}

// lora_target_linear: axolotl's way to say all-linear.
void read_target_linear(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.lora.target_modules = lora::ModulePattern::from_text("all-linear");
}

// A key that is known and whose feature is not: only its "off" is accepted.
void read_unbuilt(TrainConfig&, const ConfigValue& value) {
  const bool off = value.kind == ConfigValue::Kind::kScalar && (value.text == "false" || value.text == "0");
  const bool empty = value.kind == ConfigValue::Kind::kList && value.items.empty();
  if (!off && !empty) value.fail("false or nothing: this is not built yet");
}

using Config = TrainConfig;
using Lora = lora::LoraConfig;

template <auto Field>
constexpr ConfigBinding bind(ConfigKey key) {
  return {key, key.name, read<Field>, write<Field>};
}
template <auto Field>
constexpr ConfigBinding bind_lora(ConfigKey key) {
  return {key, key.name, read_lora<Field>, write_lora<Field>};
}
constexpr ConfigBinding unbuilt(std::string_view name, std::string_view help, std::string_view aliases = "") {
  return {{name, aliases, "", "off", help}, name, read_unbuilt, nullptr};
}

constexpr ConfigBinding kBindings[] = {
    bind<&Config::base_model>({"base_model", "model model_name model_name_or_path", "folder", "",
                               "checkpoint folder or GGUF file to fine-tune"}),
    bind<&Config::output_dir>({"output_dir", "", "folder", "", "where the adapter goes"}),
    bind<&Config::train_file>({"train_file", "train_data", "file", "",
                               "samples, one JSON object a line; or a folder with train.jsonl and valid.jsonl"}),
    bind<&Config::eval_file>({"eval_file", "", "file", "none", "held-out samples"}),
    bind<&Config::media_root>({"media_root", "media_dir", "folder", "train_file's", "media paths lie below it"}),
    bind<&Config::dtype>({"dtype", "torch_dtype", "text", "bfloat16", "of the model's arithmetic: bfloat16, float32"}),
    {{"bf16", "", "true|false|auto", "", "other tools' dtype: bfloat16 when true, else float32", true},
     "dtype",
     read_bf16,
     nullptr},
    {{"storage", "", "text", "dense",
      "of the frozen weights: dense, nf4, int8; codes in a checkpoint stay as they are"},
     "storage",
     read_storage,
     write<&Config::storage>},
    {{"load_in_4bit", "", "true|false", "false", "other tools' storage: nf4", true},
     "load_in_4bit",
     read_load_in_4bit,
     nullptr},
    {{"load_in_8bit", "", "true|false", "false", "other tools' storage: int8", true},
     "load_in_8bit",
     read_load_in_8bit,
     nullptr},
    bind<&Config::quantize_skip>({"quantize_skip", "llm_int8_skip_modules", "list", "[]",
                                  "modules that stay dense: regexes from the start of a name, or ends of names"}),
    {{"quantize_embeddings", "", "none|int8", "none", "int8: the token embeddings, and the head tied to them, too"},
     "quantize_embeddings",
     read_quantize_embeddings,
     write_quantize_embeddings},
    bind<&Config::device>({"device", "", "text", "cpu", "cpu, cuda, cuda:N, auto"}),
    bind<&Config::threads>({"threads", "", "whole", "all cores", "of the arithmetic on the CPU"}),

    {{"adapter", "", "text", "lora", "lora; qlora: over storage nf4"}, "adapter", read_adapter_kind, nullptr},
    bind_lora<&Lora::rank>({"lora_r", "lora_rank r", "whole", "16", "rank"}),
    bind_lora<&Lora::alpha>({"lora_alpha", "alpha", "number", "2 * lora_r", "scale is lora_alpha / lora_r"}),
    bind_lora<&Lora::dropout>({"lora_dropout", "", "number", "0", "on the adapter's input"}),
    bind_lora<&Lora::use_rslora>({"use_rslora", "", "true|false", "false", "scale is lora_alpha / sqrt(lora_r)", true}),
    bind_lora<&Lora::towers>({"lora_towers", "", "list", "[language]",
                              "what to adapt: language, vision, audio, projectors (the two embedders)"}),
    bind_lora<&Lora::target_modules>({"target_modules", "lora_target_modules lora_target", "list or regex",
                                      "attention and MLP projections",
                                      "layers inside lora_towers: names, one regex (full match), or all-linear"}),
    {{"lora_target_linear", "", "true|false", "false", "target_modules: all-linear", true},
     "target_modules",
     read_target_linear,
     nullptr},
    bind_lora<&Lora::exclude_modules>({"exclude_modules", "", "list or regex", "none", "layers to leave alone"}),
    bind_lora<&Lora::rank_pattern>({"rank_pattern", "", "map", "none", "name or regex: rank of those layers"}),
    bind_lora<&Lora::alpha_pattern>({"alpha_pattern", "", "map", "none", "name or regex: alpha of those layers"}),
    bind<&Config::init_adapter>({"init_adapter", "", "folder", "none", "adapter to start from"}),
    unbuilt("use_dora", "not built yet", "peft_use_dora"),
    unbuilt("loraplus_lr_ratio", "not built yet"),

    bind<&Config::learning_rate>({"learning_rate", "lr", "number", "2e-4", "after warm-up"}),
    bind<&Config::lr_scheduler>(
        {"lr_scheduler", "lr_scheduler_type", "text", "cosine", "cosine, linear, constant, constant_with_warmup"}),
    bind<&Config::warmup_ratio>(
        {"warmup_ratio", "", "number", "0.03; 0 below 10 updates", "share of all updates, rounded up; never all"}),
    bind<&Config::warmup_steps>({"warmup_steps", "", "whole", "by warmup_ratio", "updates of warm-up"}),
    {{"optimizer", "optim", "text", "adamw", "adamw"}, "optimizer", read_optimizer, nullptr},
    bind<&Config::weight_decay>({"weight_decay", "", "number", "0", "AdamW's"}),
    bind<&Config::adam_beta1>({"adam_beta1", "", "number", "0.9", "decay of the first moment"}),
    bind<&Config::adam_beta2>({"adam_beta2", "", "number", "0.999", "decay of the second moment"}),
    bind<&Config::adam_epsilon>({"adam_epsilon", "", "number", "1e-8", "added to the root of the second moment"}),
    bind<&Config::max_grad_norm>({"max_grad_norm", "", "number", "1.0", "gradients are scaled down to it; 0: never"}),

    bind<&Config::micro_batch_size>(
        {"micro_batch_size", "per_device_train_batch_size", "whole", "1", "samples at a time; with packing rows"}),
    bind<&Config::gradient_accumulation_steps>(
        {"gradient_accumulation_steps", "", "whole", "4", "micro-batches an update; tokens count equally"}),
    bind<&Config::max_seq_length>(
        {"max_seq_length", "sequence_len max_length cutoff_len", "whole", "2048", "tokens a sample"}),
    bind<&Config::num_train_epochs>({"num_train_epochs", "num_epochs", "number", "1", "passes over the samples"}),
    {{"max_steps", "", "whole", "by num_train_epochs", "updates"},
     "max_steps",
     read_max_steps,
     write<&Config::max_steps>},
    {{"packing", "sample_packing", "true|false|auto", "auto",
      "samples side by side in rows of max_seq_length, each by itself; auto: text, where 10 updates are left", true},
     "packing",
     read_auto<&Config::packing>,
     write_auto<&Config::packing>},
    bind<&Config::shuffle>({"shuffle", "", "true|false", "true", "a new order each epoch, given by seed", true}),
    bind<&Config::seed>({"seed", "", "whole", "42", "of the order, the adapter's start and dropout"}),
    {{"gradient_checkpointing", "", "true|false|auto", "auto",
      "layers run again in the backward pass: less memory; auto: where it would not fit", true},
     "gradient_checkpointing",
     read_auto<&Config::gradient_checkpointing>,
     write_auto<&Config::gradient_checkpointing>},

    bind<&Config::train_on_inputs>(
        {"train_on_inputs", "train_on_prompt", "true|false", "false", "loss on every turn", true}),
    bind<&Config::mask_history>({"mask_history", "", "true|false", "false", "loss on the last answer only", true}),
    bind<&Config::chat_format>({"chat_format", "", "text", "auto", "auto, edge (E2B, E4B), large, gemma3"}),
    bind<&Config::max_soft_tokens>(
        {"max_soft_tokens", "", "whole", "the processor's", "of a picture: 70, 140, 280, 560, 1120"}),
    bind<&Config::skip_bad_samples>({"skip_bad_samples", "", "true|false", "false", "leave them out and count", true}),
    bind<&Config::dataloader_num_workers>(
        {"dataloader_num_workers", "", "whole", "1", "threads that read samples ahead; 0: read between steps"}),
    bind<&Config::data_timeout_s>(
        {"data_timeout", "", "number", "300", "seconds for a sample in a worker, after which it is bad; 0: no bound"}),
    {{"cache_soft_tokens", "", "true|false|auto", "auto",
      "keep what towers without adapters make of pictures and recordings; auto: where samples come more than once",
      true},
     "cache_soft_tokens",
     read_auto<&Config::cache_soft_tokens>,
     write_auto<&Config::cache_soft_tokens>},
    bind<&Config::cache_dir>(
        {"cache_dir", "", "folder", "cache in output_dir", "where soft tokens are kept; runs may share it"}),
    bind<&Config::cache_limit_gb>(
        {"cache_limit_gb", "", "number", "4", "of that folder; what was used longest ago goes first"}),

    bind<&Config::val_set_size>({"val_set_size", "val_size", "number", "0", "held out: a share below 1, or a number"}),
    bind<&Config::eval_steps>({"eval_steps", "", "whole", "each epoch", "updates between evaluations"}),
    bind<&Config::logging_steps>({"logging_steps", "", "whole", "1", "updates between lines"}),
    bind<&Config::save_steps>({"save_steps", "", "whole", "100", "updates between checkpoints; 0: only at the end"}),
    bind<&Config::save_total_limit>({"save_total_limit", "", "whole", "3", "checkpoints kept; 0: all"}),
    bind<&Config::sample_predictions>(
        {"sample_predictions", "", "whole", "3", "samples that the model answers before and after training; 0: none"}),
    {{"report_to", "", "list", "[jsonl, tensorboard, html]", "metrics.jsonl, runs/, report.html; or none"},
     "report_to",
     read_report_to,
     write<&Config::report_to>},
    {{"resume_from_checkpoint", "resume auto_resume_from_checkpoints", "auto|none|folder", "none",
      "go on, to the same bytes: auto, from the newest checkpoint in output_dir; or from this one", true},
     "resume_from_checkpoint",
     read_resume,
     write<&Config::resume_from_checkpoint>},
    bind<&Config::force_resume>({"force_resume", "", "true|false", "false",
                                 "resume though data, base or config differ from those of the checkpoint", true}),
};

constexpr auto kKeys = [] {
  std::array<ConfigKey, std::size(kBindings)> keys{};
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = kBindings[i].key;
  return keys;
}();

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }
std::span<const ConfigBinding> config_bindings() { return kBindings; }

}  // namespace bezel::train
