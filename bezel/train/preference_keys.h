#pragma once

#include <string>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"

namespace bezel::train {

/// The default learning rate of preference training.
inline constexpr double kPreferenceLearningRate = 5e-6;

/// "sft", "dpo", "orpo", "simpo" or "kto".
std::string objective_name(ObjectiveKind kind);

/// Readers of the keys; each throws Error (kConfig) naming place, key and expectation.
void read_objective(TrainConfig& config, const ConfigValue& value);
std::string write_objective(const TrainConfig& config);
void read_dpo_loss(TrainConfig& config, const ConfigValue& value);
std::string write_dpo_loss(const TrainConfig& config);
void read_loss_weights(TrainConfig& config, const ConfigValue& value);
std::string write_loss_weights(const TrainConfig& config);
void read_rpo_alpha(TrainConfig& config, const ConfigValue& value);

/// For ConfigBinding::is_neutral: the loss of supervised samples, and a weight of zero.
bool is_plain_loss(const ConfigValue& value);
bool is_zero_weight(const ConfigValue& value);

/// What is left to do once all keys are read: losses that other tools call by the name of their objective, and
/// rpo_alpha as one more loss.
void settle_preferences(PreferenceConfig& preference);

/// Throws Error (kConfig), beginning with `source`, for values out of range, settings that the objective does not use,
/// and settings of supervised samples beside an objective that learns from preferences.
void check_preferences(const TrainConfig& config, const std::string& source);

}  // namespace bezel::train
