#include "bezel/train/config_readers.h"

#include <algorithm>

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

}  // namespace bezel::train
