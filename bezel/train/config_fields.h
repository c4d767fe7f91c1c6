#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"
#include "bezel/train/given_options.h"

namespace bezel::train {

/// assign() reads a value into a field of its type; each throws Error (kConfig) naming place, key and expectation.
void assign(std::string& field, const ConfigValue& value);
void assign(std::int64_t& field, const ConfigValue& value);
void assign(double& field, const ConfigValue& value);
void assign(bool& field, const ConfigValue& value);
void assign(std::vector<std::string>& field, const ConfigValue& value);
void assign(std::vector<std::int64_t>& field, const ConfigValue& value);
void assign(ScheduleKind& field, const ConfigValue& value);
void assign(ScheduleOptions& field, const ConfigValue& value);
void assign(std::vector<lora::Tower>& field, const ConfigValue& value);
void assign(lora::ModulePattern& field, const ConfigValue& value);

template <typename T>
void assign(std::optional<T>& field, const ConfigValue& value) {
  assign(field.emplace(), value);
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

/// show() writes a field as YAML that assign() reads back to an equal one.
std::string show(const std::string& text);
std::string show(std::int64_t value);
std::string show(bool value);
std::string show(double value);
std::string show(const std::vector<std::string>& texts);
std::string show(const std::vector<std::int64_t>& numbers);
std::string show(ScheduleKind kind);
GivenOptions given(const ScheduleOptions& options);
inline std::string show(const ScheduleOptions& options) { return given(options).yaml(); }
std::string show(const std::vector<lora::Tower>& towers);
std::string show(const lora::ModulePattern& pattern);

template <typename T>
std::string show(const std::optional<T>& value) {
  return value ? show(*value) : "null";
}

template <typename T>
std::string show(const std::vector<std::pair<std::string, T>>& map) {
  std::string out = "{";
  for (const auto& [name, value] : map) out += (out.size() > 1 ? ", " : "") + show(name) + ": " + show(value);
  return out + "}";
}

}  // namespace bezel::train
