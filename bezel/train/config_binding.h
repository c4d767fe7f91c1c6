#pragma once

#include <string>
#include <string_view>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"

namespace bezel::train {

/// How a key reads into a TrainConfig and writes out of it.
struct ConfigBinding {
  ConfigKey key;
  /// Keys with the same slot set the same thing: where several are given, they must agree.
  std::string_view slot;
  void (*read)(TrainConfig& config, const ConfigValue& value);
  /// The value as YAML; nothing for keys that only translate into another.
  std::string (*write)(const TrainConfig& config);
  /// Whether a value leaves the slot alone, as load_in_4bit: false leaves storage; may be null.
  bool (*is_neutral)(const ConfigValue& value) = nullptr;
};

/// The table behind config_keys(), in the same order.
std::span<const ConfigBinding> config_bindings();

/// The binding of a key or alias, written with '_'; null when there is none.
const ConfigBinding* find_binding(std::string_view name);

/// Throws Error (kConfig) when a value is out of range or two contradict each other; `source` names the config.
void check_train_config(const TrainConfig& config, const std::string& source, bool require_paths);

}  // namespace bezel::train
