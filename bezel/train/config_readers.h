#pragma once

#include <string>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"

namespace bezel::train {

/// Readers of keys that are more than one field: other tools' spellings of a setting, and keys with words of their own.
/// Each throws Error (kConfig) naming place, key and expectation.
void read_max_steps(TrainConfig& config, const ConfigValue& value);
void read_resume(TrainConfig& config, const ConfigValue& value);
void read_report_to(TrainConfig& config, const ConfigValue& value);
void read_storage(TrainConfig& config, const ConfigValue& value);
void read_load_in_4bit(TrainConfig& config, const ConfigValue& value);
void read_load_in_8bit(TrainConfig& config, const ConfigValue& value);
void read_quantize_embeddings(TrainConfig& config, const ConfigValue& value);
std::string write_quantize_embeddings(const TrainConfig& config);
void read_bf16(TrainConfig& config, const ConfigValue& value);
void read_adapter_kind(TrainConfig& config, const ConfigValue& value);
void read_optimizer(TrainConfig& config, const ConfigValue& value);
void read_target_linear(TrainConfig& config, const ConfigValue& value);
void read_unbuilt(TrainConfig& config, const ConfigValue& value);

}  // namespace bezel::train
