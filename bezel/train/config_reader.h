#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/train/config_binding.h"
#include "bezel/train/foreign_keys.h"

namespace bezel::train {

/// What is wrong with a config, collected so that one error names all of it.
class ConfigProblems {
 public:
  void add(const std::string& problem);
  /// A key that neither config_keys() nor foreign_keys() holds.
  void add_unknown(const ConfigValue& value, const std::string& name);
  /// Runs `action` and adds the Error (kConfig) that it throws.
  void attempt(const std::function<void()>& action);
  /// Throws Error (kConfig) with all problems, the first 100 in full.
  void throw_if_any() const;

 private:
  std::vector<std::string> problems_;
  bool has_unknown_ = false;
};

/// Reads the settings of one source, the file or the flags, into a config: each slot once, or several times alike.
class ConfigReader {
 public:
  ConfigReader(TrainConfig& config, ConfigProblems& problems) : config_(&config), problems_(&problems) {}

  /// Reads the value of the key `name`; what is wrong is added to the problems.
  void apply(const std::string& name, ConfigValue value);
  /// Whether a value was given for the slot.
  bool has(std::string_view slot) const { return given_.contains(slot); }
  /// Where the slot was given: "c.yaml:3: key 'lr'".
  std::string place(std::string_view slot) const;
  /// The place of a key that was given and did not set its slot (load_in_4bit: false); "" without such a key.
  std::string turned_off(std::string_view key) const;
  /// Names of keys that change nothing here, in the order in which they were given.
  const std::vector<std::string>& ignored() const { return ignored_; }

 private:
  struct Given {
    std::string place;
    std::string text;  // as YAML, to compare
  };

  void read(const ConfigBinding& binding, const ConfigValue& value);
  void read_foreign(const ForeignKey& key, const ConfigValue& value);

  TrainConfig* config_;
  ConfigProblems* problems_;
  std::map<std::string_view, Given> given_;
  std::map<std::string_view, std::string> turned_off_;
  std::vector<std::string> ignored_;
};

/// `name` with '-' as '_', as keys are compared.
std::string normal_key(std::string_view name);

}  // namespace bezel::train
