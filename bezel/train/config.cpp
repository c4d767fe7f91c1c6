#include "bezel/train/config.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "bezel/error.h"
#include "bezel/io/home_path.h"
#include "bezel/io/hub_cache.h"
#include "bezel/train/config_binding.h"
#include "bezel/train/config_reader.h"
#include "bezel/train/preference_keys.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;

/// Slots that set the same thing in different ways, so that one alone may be given.
using Group = std::array<std::string_view, 3>;
constexpr Group kGroups[] = {
    {"train_file", "datasets", "dataset"}, {"eval_file", "test_datasets", "eval_dataset"},
    {"warmup_ratio", "warmup_steps", ""},  {"eval_steps", "evals_per_epoch", ""},
    {"save_steps", "saves_per_epoch", ""},
};

bool is_in(const Group& group, std::string_view slot) { return std::ranges::find(group, slot) != group.end(); }

// A flag overrides the file, also where the file sets the same by another key of the group.
bool is_replaced(const std::string& name, const std::vector<Override>& overrides) {
  const ConfigBinding* const binding = find_binding(normal_key(name));
  if (binding == nullptr) return false;
  return std::ranges::any_of(overrides, [&](const Override& item) {
    const ConfigBinding* const flag = find_binding(normal_key(item.key));
    if (flag == nullptr) return false;
    if (flag->slot == binding->slot) return item.value == "null";
    const bool holds_out = is_in(kGroups[1], flag->slot) && binding->slot == "val_set_size";
    return holds_out || std::ranges::any_of(kGroups, [&](const Group& group) {
             return is_in(group, flag->slot) && is_in(group, binding->slot);
           });
  });
}

// Tools write the warm-up that they do not use as 0.
bool is_zero_warmup(const TrainConfig& config) { return config.warmup_ratio == 0.0 || config.warmup_steps == 0; }

void check_groups(const ConfigReader& reader, const TrainConfig& config, ConfigProblems& problems) {
  for (const Group& group : kGroups) {
    if (is_in(group, "warmup_ratio") && is_zero_warmup(config)) continue;
    for (std::size_t i = 0; i < group.size(); ++i)
      for (std::size_t j = i + 1; j < group.size(); ++j)
        if (reader.has(group[i]) && reader.has(group[j]))
          problems.add(reader.place(group[j]) + " is given beside " + reader.place(group[i]) + "; keep one");
  }
}

// load_in_4bit: false beside adapter: qlora, and lora_towers beside the keys that choose single towers.
void check_contradictions(const ConfigReader& reader, const TrainConfig& config, ConfigProblems& problems) {
  for (const auto& [key, storage] : {std::pair("load_in_4bit", "nf4"), std::pair("load_in_8bit", "int8")})
    if (const std::string off = reader.turned_off(key);
        !off.empty() && reader.has("storage") && config.storage == storage)
      problems.add(reader.place("storage") + " contradicts " + off + "; keep one");
  if (!reader.has("lora_towers")) return;
  for (const std::string_view slot : {"language_tower", "vision_tower", "audio_tower", "projectors_tower"})
    if (reader.has(slot))
      problems.add(reader.place(slot) + " is given beside " + reader.place("lora_towers") + "; keep one");
}

void settle_warmup(TrainConfig& config) {
  if (!config.warmup_ratio || !config.warmup_steps) return;
  if (*config.warmup_steps == 0)
    config.warmup_steps.reset();
  else if (*config.warmup_ratio == 0)
    config.warmup_ratio.reset();
}

void expand_homes(TrainConfig& config) {
  for (std::string* path :
       {&config.base_model, &config.mmproj, &config.output_dir, &config.train_file, &config.eval_file,
        &config.media_root, &config.dataset_dir, &config.init_adapter, &config.cache_dir,
        &config.resume_from_checkpoint, &config.chat_template, &config.tokenizer, &config.convert_to})
    *path = io::expand_home(*path);
  for (auto* names : {&config.dataset, &config.eval_dataset})
    for (std::string& name : *names) name = io::expand_home(name);
  for (auto* entries : {&config.datasets, &config.test_datasets})
    for (DatasetEntry& entry : *entries) {
      entry.file.path = io::expand_home(entry.file.path);
      entry.file.media_root = io::expand_home(entry.file.media_root);
    }
}

void note_ignored(TrainConfig& config, const ConfigReader& file, const ConfigReader& flags) {
  std::vector<std::string> names = file.ignored();
  names.insert(names.end(), flags.ignored().begin(), flags.ignored().end());
  if (names.empty()) return;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  config.notes.push_back((names.size() == 1 ? "1 key of another tool changes"
                                            : std::to_string(names.size()) + " keys of other tools change") +
                         " nothing here (speed, memory, logging): " + list);
}

std::string read_text_file(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) throw Error(ErrorKind::kIo, path, ": is a folder, expected a YAML file");
  if (!fs::exists(path, error)) throw Error(ErrorKind::kIo, path, ": no such file");
  if (!fs::is_regular_file(path, error)) throw Error(ErrorKind::kIo, path, ": not a regular file");
  std::ifstream stream(path, std::ios::binary);
  // One byte more than the parser accepts, so that it says what is wrong with a huge file without reading it all.
  std::string text((1u << 20) + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream.is_open() || stream.bad()) throw Error(ErrorKind::kIo, path, ": cannot be read");
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return text;
}

}  // namespace

std::vector<Override> parse_overrides(const std::vector<std::string>& arguments) {
  std::vector<Override> overrides;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.size() < 3 || argument.compare(0, 2, "--") != 0)
      throw Error(ErrorKind::kConfig, "argument '", argument, "': expected --key value");
    const std::size_t equals = argument.find('=');
    Override item{argument.substr(0, equals), normal_key(argument.substr(2, equals - 2)), ""};
    if (equals == std::string::npos) item.key = normal_key(argument.substr(2));
    const ConfigBinding* binding = find_binding(item.key);
    const bool has_next = i + 1 < arguments.size() && arguments[i + 1].compare(0, 2, "--") != 0;
    if (equals != std::string::npos)
      item.value = argument.substr(equals + 1);
    else if (has_next)
      item.value = arguments[++i];
    else if (binding == nullptr || binding->key.is_switch)
      item.value = "true";
    else
      throw Error(ErrorKind::kConfig, item.flag, ": a value is missing");
    overrides.push_back(std::move(item));
  }
  return overrides;
}

TrainConfig parse_train_config(std::string_view yaml, const std::string& source, const std::vector<Override>& overrides,
                               bool require_paths) {
  TrainConfig config;
  ConfigProblems problems;
  ConfigReader file(config, problems), flags(config, problems);
  ConfigValue root = parse_config_yaml(yaml, source);
  for (auto& [name, value] : root.members)
    if (!is_replaced(name, overrides)) file.apply(name, std::move(value));
  check_groups(file, config, problems);
  check_contradictions(file, config, problems);
  settle_warmup(config);
  for (const Override& item : overrides)
    problems.attempt([&] { flags.apply(item.key, parse_flag_value(item.key, item.flag, item.value)); });
  check_groups(flags, config, problems);
  check_contradictions(flags, config, problems);
  settle_warmup(config);
  problems.throw_if_any();
  if (!file.has("lora_alpha") && !flags.has("lora_alpha"))
    config.lora.alpha = 2.0 * static_cast<double>(config.lora.rank);
  if ((file.has("cosine_min_lr_ratio") || flags.has("cosine_min_lr_ratio")) &&
      config.lr_scheduler == ScheduleKind::kCosine)
    config.lr_scheduler = ScheduleKind::kCosineWithMinLr;
  settle_preferences(config.preference);
  if (config.preference.uses_preferences() && !file.has("learning_rate") && !flags.has("learning_rate"))
    config.learning_rate = kPreferenceLearningRate;
  expand_homes(config);
  note_ignored(config, file, flags);
  check_train_config(config, source, require_paths);
  return config;
}

TrainConfig read_train_config(const std::string& path, const std::vector<Override>& overrides) {
  TrainConfig config = path.empty() ? parse_train_config("", "command line", overrides)
                                    : parse_train_config(read_text_file(path), path, overrides);
  config.base_name = config.base_model;
  config.base_model = io::find_model(config.base_model);
  return config;
}

std::string to_yaml(const TrainConfig& config) {
  std::string out;
  for (const ConfigBinding& binding : config_bindings()) {
    if (binding.write == nullptr) continue;
    // Of two keys that set the same, the one that counts.
    const bool skip = (binding.key.name == "warmup_ratio" && config.warmup_steps) ||
                      (binding.key.name == "save_steps" && config.saves_per_epoch);
    if (!skip) out += std::string(binding.key.name) + ": " + binding.write(config) + "\n";
  }
  return out;
}

}  // namespace bezel::train
