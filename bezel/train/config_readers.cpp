#include "bezel/train/config_readers.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "bezel/error.h"
#include "bezel/train/config_fields.h"
#include "bezel/train/recipe_datasets.h"

namespace bezel::train {

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
  const std::string lower = value.lower_text();
  config.resume_from_checkpoint = lower == "true" ? "auto" : value.as_text();
  if (lower == "none" || lower == "false") config.resume_from_checkpoint.clear();
}

namespace {

// Tools that show metrics elsewhere get no feed of their own.
[[noreturn]] void refuse_report(const ConfigValue& value, const std::string& name) {
  constexpr std::string_view kTrackers[] = {"wandb",   "mlflow",  "comet_ml", "clearml", "azure_ml", "codecarbon",
                                            "dagshub", "dvclive", "flyte",    "neptune", "swanlab",  "trackio"};
  if (std::ranges::find(kTrackers, name) == std::end(kTrackers)) value.fail("jsonl, tensorboard, html, or none");
  throw Error(ErrorKind::kConfig, value.where, ": key '", value.key, "': ", name,
              " gets no feed; write report_to: [jsonl, tensorboard, html], which are metrics.jsonl, the TensorBoard "
              "folder runs/ and report.html in output_dir",
              name == "wandb" ? "; `wandb sync --sync-tensorboard` uploads that folder" : "");
}

}  // namespace

// A file; or a name, as axolotl writes it: those of Gemma mean the checkpoint's own template.
void read_chat_template(TrainConfig& config, const ConfigValue& value) {
  const std::string name = value.lower_text();
  const bool is_file = name.find_first_of("./") != std::string::npos;
  if (!is_file && !name.empty() && !name.starts_with("gemma") && name != "tokenizer_default" && name != "auto")
    value.fail("a file with the template, or gemma4: the checkpoint's own");
  config.chat_template = is_file ? value.as_text() : "";
}

void read_report_to(TrainConfig& config, const ConfigValue& value) {
  constexpr std::string_view kKnown[] = {"jsonl", "tensorboard", "html"};
  config.report_to = value.as_texts();
  for (std::string& name : config.report_to)
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (config.report_to == std::vector<std::string>{"all"})
    config.report_to.assign(std::begin(kKnown), std::end(kKnown));
  std::erase(config.report_to, "none");
  for (const std::string& name : config.report_to)
    if (std::ranges::find(kKnown, name) == std::end(kKnown)) refuse_report(value, name);
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

// LLaMA-Factory writes 16 for weights that are not quantized.
void read_quantization_bit(TrainConfig& config, const ConfigValue& value) {
  const std::int64_t bits = value.as_whole();
  if (bits != 4 && bits != 8) value.fail("4 or 8; other bits are not supported");
  config.storage = bits == 4 ? "nf4" : "int8";
}

// auto: the checkpoint's, which is bfloat16.
void read_dtype(TrainConfig& config, const ConfigValue& value) {
  std::string name = value.lower_text();
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "bfloat16" || name == "bf16" || name == "auto")
    config.dtype = "bfloat16";
  else if (name == "float32" || name == "fp32" || name == "float")
    config.dtype = "float32";
  else
    value.fail(name == "float16" || name == "fp16" || name == "half" ? "bfloat16 or float32: float16 is not supported"
                                                                     : "bfloat16, float32 or auto");
}

void read_reduce_dtype(TrainConfig& config, const ConfigValue& value) {
  std::string name = value.lower_text();
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "bfloat16" || name == "bf16")
    config.reduce_dtype = "bfloat16";
  else if (name == "float32" || name == "fp32" || name == "float")
    config.reduce_dtype = "float32";
  else
    value.fail("float32 or bfloat16");
}

// full is axolotl's word for bfloat16 without autocast.
void read_bf16(TrainConfig& config, const ConfigValue& value) {
  const std::string word = value.lower_text();
  config.dtype = word == "auto" || word == "full" || value.as_bool() ? "bfloat16" : "float32";
}

void read_float32(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.dtype = "float32";
}

// qlora is how axolotl asks for LoRA over 4 bits.
void read_adapter_kind(TrainConfig& config, const ConfigValue& value) {
  if (value.as_text() == "qlora")
    config.storage = "nf4";
  else if (value.as_text() != "lora")
    value.fail("lora or qlora; others are not built yet");
}

void read_init_lora_weights(TrainConfig& config, const ConfigValue& value) {
  const std::string name = value.lower_text();
  config.lora.init_lora_weights = name == "default" || name == "yes" || name == "on" ? "true" : name;
}

void read_trainable_tokens(TrainConfig& config, const ConfigValue& value) {
  auto& tokens = config.lora.trainable_token_indices;
  tokens.clear();
  if (value.is_off()) return;
  if (value.kind == ConfigValue::Kind::kMap)
    assign(tokens, value);
  else
    assign(tokens.emplace_back("embed_tokens", std::vector<std::int64_t>{}).second, value);
}

// lora_target_linear: axolotl's spelling of all-linear.
void read_target_linear(TrainConfig& config, const ConfigValue& value) {
  if (value.as_bool()) config.lora.target_modules = lora::ModulePattern::from_text("all-linear");
}

// A share of the updates, as in transformers, where it is below 1.
void read_warmup_steps(TrainConfig& config, const ConfigValue& value) {
  const double steps = value.as_number();
  if (steps > 0 && steps < 1)
    config.warmup_ratio = steps;
  else if (steps != std::floor(steps) || std::abs(steps) > 1e15)
    value.fail("a whole number of updates, or a share of them below 1");
  else
    config.warmup_steps = static_cast<std::int64_t>(steps);
}

// unsloth and axolotl name where activations are offloaded; here they are recomputed.
void read_gradient_checkpointing(TrainConfig& config, const ConfigValue& value) {
  const std::string word = value.lower_text();
  if (word == "auto")
    config.gradient_checkpointing.reset();
  else
    config.gradient_checkpointing = word == "unsloth" || word == "offload" || word == "offload_disk" || value.as_bool();
}

void read_no_gradient_checkpointing(TrainConfig& config, const ConfigValue& value) {
  config.gradient_checkpointing = !value.as_bool();
}

void read_neat_packing(TrainConfig& config, const ConfigValue& value) { config.packing = value.as_bool(); }

namespace {

void read_strategy(std::string& field, const ConfigValue& value) {
  const std::string word = value.lower_text();
  if (word == "no" || word == "steps" || word == "epoch")
    field = word;
  else if (word == "false" || word == "off" || word == "none")
    field = "no";
  else
    value.fail("no, steps or epoch");
}

}  // namespace

void read_eval_strategy(TrainConfig& config, const ConfigValue& value) { read_strategy(config.eval_strategy, value); }
// best: after evaluations that are the best so far.
void read_save_strategy(TrainConfig& config, const ConfigValue& value) {
  if (value.lower_text() == "best")
    config.save_strategy = "best";
  else
    read_strategy(config.save_strategy, value);
}
void read_logging_strategy(TrainConfig& config, const ConfigValue& value) {
  read_strategy(config.logging_strategy, value);
}

// TRL and unsloth ask for loss on answers alone, which is the default here.
void read_answers_only(TrainConfig& config, const ConfigValue& value) { config.train_on_inputs = !value.as_bool(); }

void read_no_shuffling(TrainConfig& config, const ConfigValue& value) { config.shuffle = !value.as_bool(); }

void read_sampling_strategy(TrainConfig& config, const ConfigValue& value) {
  const std::string word = value.lower_text();
  if (word != "random" && word != "sequential" && word != "group_by_length")
    value.fail("random, group_by_length or sequential");
  config.shuffle = word != "sequential";
}

namespace {

void set_tower(TrainConfig& config, lora::Tower tower, bool adapts) {
  std::vector<lora::Tower>& towers = config.lora.towers;
  std::erase(towers, tower);
  if (adapts) towers.push_back(tower);
  std::ranges::sort(towers);
}

}  // namespace

void read_language_tower(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kLanguage, value.as_bool());
}
void read_vision_tower(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kVision, value.as_bool());
}
void read_audio_tower(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kAudio, value.as_bool());
}
void read_frozen_language(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kLanguage, !value.as_bool());
}
void read_frozen_vision(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kVision, !value.as_bool());
}
void read_frozen_projectors(TrainConfig& config, const ConfigValue& value) {
  set_tower(config, lora::Tower::kProjectors, !value.as_bool());
}

void read_datasets(TrainConfig& config, const ConfigValue& value) {
  config.datasets = read_dataset_entries(value, config.notes);
}
std::string write_datasets(const TrainConfig& config) { return show_entries(config.datasets); }

void read_test_datasets(TrainConfig& config, const ConfigValue& value) {
  config.test_datasets = read_dataset_entries(value, config.notes);
}
std::string write_test_datasets(const TrainConfig& config) { return show_entries(config.test_datasets); }

namespace {

void set_column(TrainConfig& config, const std::string& name, const std::string& theirs) {
  std::erase_if(config.columns.columns, [&](const auto& item) { return item.first == name; });
  config.columns.columns.emplace_back(name, theirs);
}

}  // namespace

void read_column_names(TrainConfig& config, const ConfigValue& value) {
  for (const auto& [name, theirs] : read_columns(value)) set_column(config, name, theirs);
}
std::string write_column_names(const TrainConfig& config) { return show_names(config.columns.columns); }

void read_field_messages(TrainConfig& config, const ConfigValue& value) {
  set_column(config, "messages", value.as_text());
}

// The default of TRL; chats in its data sets are read all the same.
void read_text_field(TrainConfig& config, const ConfigValue& value) {
  if (value.as_text() != "text") set_column(config, "text", value.as_text());
}

void read_message_properties(TrainConfig& config, const ConfigValue& value) {
  config.columns.message_keys = read_message_keys(value);
}
std::string write_message_properties(const TrainConfig& config) { return show_names(config.columns.message_keys); }

void read_role_names(TrainConfig& config, const ConfigValue& value) { config.columns.roles = read_roles(value); }
std::string write_role_names(const TrainConfig& config) { return show_roles(config.columns.roles); }

// axolotl's floor of a cosine: min_lr_rate of transformers' cosine_with_min_lr.
void read_cosine_min_lr(TrainConfig& config, const ConfigValue& value) {
  config.lr_scheduler_kwargs.min_lr_rate = value.as_number();
}

bool turns_off(const ConfigValue& value) { return value.is_off(); }
bool is_plain_lora(const ConfigValue& value) { return value.lower_text() == "lora"; }
bool is_not_quantized(const ConfigValue& value) { return value.is_off() || value.text == "16"; }

}  // namespace bezel::train
