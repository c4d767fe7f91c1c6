#pragma once

#include <string>
#include <vector>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"
#include "bezel/train/given_options.h"

namespace bezel::train {

/// Readers of keys that are more than one field: other tools' spellings of a setting, and keys with words of their own.
/// Each throws Error (kConfig) naming place, key and expectation.
void read_max_steps(TrainConfig& config, const ConfigValue& value);
void read_resume(TrainConfig& config, const ConfigValue& value);
void read_report_to(TrainConfig& config, const ConfigValue& value);
void read_storage(TrainConfig& config, const ConfigValue& value);
void read_chat_template(TrainConfig& config, const ConfigValue& value);
void read_load_in_4bit(TrainConfig& config, const ConfigValue& value);
void read_load_in_8bit(TrainConfig& config, const ConfigValue& value);
void read_quantize_embeddings(TrainConfig& config, const ConfigValue& value);
std::string write_quantize_embeddings(const TrainConfig& config);
void read_quantization_bit(TrainConfig& config, const ConfigValue& value);
void read_dtype(TrainConfig& config, const ConfigValue& value);
void read_reduce_dtype(TrainConfig& config, const ConfigValue& value);
void read_bf16(TrainConfig& config, const ConfigValue& value);
void read_float32(TrainConfig& config, const ConfigValue& value);
void read_adapter_kind(TrainConfig& config, const ConfigValue& value);
void read_init_lora_weights(TrainConfig& config, const ConfigValue& value);
void read_trainable_tokens(TrainConfig& config, const ConfigValue& value);
void read_optimizer(TrainConfig& config, const ConfigValue& value);
std::string write_optimizer(const TrainConfig& config);
void read_use_muon(TrainConfig& config, const ConfigValue& value);
void read_optim_args(TrainConfig& config, const ConfigValue& value);
std::string write_optim_args(const TrainConfig& config);
void read_lr_groups(TrainConfig& config, const ConfigValue& value);
std::string write_lr_groups(const TrainConfig& config);
void read_best_metric(TrainConfig& config, const ConfigValue& value);
std::string write_best_metric(const TrainConfig& config);
void read_target_linear(TrainConfig& config, const ConfigValue& value);
void read_warmup_steps(TrainConfig& config, const ConfigValue& value);
void read_gradient_checkpointing(TrainConfig& config, const ConfigValue& value);
void read_no_gradient_checkpointing(TrainConfig& config, const ConfigValue& value);
void read_neat_packing(TrainConfig& config, const ConfigValue& value);
void read_eval_strategy(TrainConfig& config, const ConfigValue& value);
void read_save_strategy(TrainConfig& config, const ConfigValue& value);
void read_logging_strategy(TrainConfig& config, const ConfigValue& value);
void read_answers_only(TrainConfig& config, const ConfigValue& value);
void read_no_shuffling(TrainConfig& config, const ConfigValue& value);
void read_sampling_strategy(TrainConfig& config, const ConfigValue& value);
void read_language_tower(TrainConfig& config, const ConfigValue& value);
void read_vision_tower(TrainConfig& config, const ConfigValue& value);
void read_audio_tower(TrainConfig& config, const ConfigValue& value);
void read_frozen_language(TrainConfig& config, const ConfigValue& value);
void read_frozen_vision(TrainConfig& config, const ConfigValue& value);
void read_frozen_projectors(TrainConfig& config, const ConfigValue& value);
void read_datasets(TrainConfig& config, const ConfigValue& value);
std::string write_datasets(const TrainConfig& config);
void read_test_datasets(TrainConfig& config, const ConfigValue& value);
std::string write_test_datasets(const TrainConfig& config);
void read_column_names(TrainConfig& config, const ConfigValue& value);
std::string write_column_names(const TrainConfig& config);
void read_field_messages(TrainConfig& config, const ConfigValue& value);
void read_text_field(TrainConfig& config, const ConfigValue& value);
void read_message_properties(TrainConfig& config, const ConfigValue& value);
std::string write_message_properties(const TrainConfig& config);
void read_role_names(TrainConfig& config, const ConfigValue& value);
std::string write_role_names(const TrainConfig& config);
void read_cosine_min_lr(TrainConfig& config, const ConfigValue& value);

/// The options of optim_args that are given.
GivenOptions given(const OptimizerOptions& options);

/// For ConfigBinding::is_neutral: false or the like; LoRA over whatever weights; bits that mean no quantization.
bool turns_off(const ConfigValue& value);
bool is_plain_lora(const ConfigValue& value);
bool is_not_quantized(const ConfigValue& value);

}  // namespace bezel::train
