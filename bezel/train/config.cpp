#include "bezel/train/config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "bezel/data/data_folder.h"
#include "bezel/error.h"
#include "bezel/nearest.h"
#include "bezel/train/config_binding.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;

std::string normal(std::string_view name) {
  std::string out(name);
  std::ranges::replace(out, '-', '_');
  return out;
}

/// Calls visit(name) for a key's name and its aliases.
template <typename Visit>
void each_name(const ConfigKey& key, Visit visit) {
  visit(key.name);
  for (std::size_t begin = 0; begin < key.aliases.size();) {
    const std::size_t end = std::min(key.aliases.find(' ', begin), key.aliases.size());
    visit(key.aliases.substr(begin, end - begin));
    begin = end + 1;
  }
}

const ConfigBinding* find_binding(const std::string& name) {
  for (const ConfigBinding& binding : config_bindings()) {
    bool found = false;
    each_name(binding.key, [&](std::string_view candidate) { found = found || candidate == name; });
    if (found) return &binding;
  }
  return nullptr;
}

/// Keys that no binding knows, reported in one error.
class UnknownKeys {
 public:
  void add(const std::string& where, const std::string& name) {
    if (++count_ > kMost) return;
    const std::string near = nearest_key(name);
    text_ += (text_.empty() ? "" : ", ") + where + ": unknown key '" + name.substr(0, 80) + "' (" +
             (near.empty() ? "delete it" : "did you mean '" + near + "'?") + ")";
  }

  void throw_if_any() const {
    if (count_ == 0) return;
    const std::string more = count_ > kMost ? " and " + std::to_string(count_ - kMost) + " more" : "";
    throw Error(ErrorKind::kConfig, text_, more, "; `bezel train --help` lists all keys");
  }

 private:
  static constexpr std::size_t kMost = 20;

  std::string text_;
  std::size_t count_ = 0;
};

/// Reads settings of one source (the file, or the flags) into a config, each slot once.
class Reader {
 public:
  explicit Reader(TrainConfig& config) : config_(&config) {}

  void apply(const std::string& name, ConfigValue value) {
    const ConfigBinding* binding = find_binding(normal(name));
    value.key = name;
    if (value.kind == ConfigValue::Kind::kNull) return;  // "key:" and "key: null" say nothing
    const auto [seen, is_new] = given_.try_emplace(binding->slot, name);
    if (!is_new)
      throw Error(ErrorKind::kConfig, value.where, ": key '", name, "' is given twice, before as '", seen->second, "'");
    binding->read(*config_, value);
  }

  bool has(std::string_view slot) const { return given_.count(slot) > 0; }

 private:
  TrainConfig* config_;
  std::map<std::string_view, std::string> given_;
};

/// Settings that a flag of "null" takes out of the file.
bool is_taken_back(const std::string& name, const std::vector<Override>& overrides) {
  const ConfigBinding* binding = find_binding(normal(name));
  return binding != nullptr && std::ranges::any_of(overrides, [&](const Override& item) {
           const ConfigBinding* other = find_binding(item.key);
           return item.value == "null" && other != nullptr && other->slot == binding->slot;
         });
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

std::string nearest_key(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ConfigKey& key : config_keys())
    each_name(key, [&](std::string_view candidate) { names.push_back(candidate); });
  return nearest_name(normal(name.substr(0, 80)), names);
}

std::vector<Override> parse_overrides(const std::vector<std::string>& arguments) {
  std::vector<Override> overrides;
  UnknownKeys unknown;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.size() < 3 || argument.compare(0, 2, "--") != 0)
      throw Error(ErrorKind::kConfig, "argument '", argument, "': expected --key value");
    const std::size_t equals = argument.find('=');
    Override item{argument.substr(0, equals), normal(argument.substr(2, equals - 2)), ""};
    if (equals == std::string::npos) item.key = normal(argument.substr(2));
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
    if (binding == nullptr) unknown.add(item.flag, item.key);
    overrides.push_back(std::move(item));
  }
  unknown.throw_if_any();
  return overrides;
}

TrainConfig parse_train_config(std::string_view yaml, const std::string& source, const std::vector<Override>& overrides,
                               bool require_paths) {
  TrainConfig config;
  Reader file(config);
  ConfigValue root = parse_config_yaml(yaml, source);
  UnknownKeys unknown;
  for (const auto& [name, value] : root.members)
    if (find_binding(normal(name)) == nullptr) unknown.add(value.where, name);
  for (const Override& item : overrides)
    if (find_binding(normal(item.key)) == nullptr) unknown.add(item.flag, item.key);
  unknown.throw_if_any();
  for (auto& [name, value] : root.members) {
    if (!is_taken_back(name, overrides)) file.apply(name, std::move(value));
  }
  Reader flags(config);
  for (const Override& item : overrides) flags.apply(item.key, parse_flag_value(item.key, item.flag, item.value));
  if (!file.has("lora_alpha") && !flags.has("lora_alpha"))
    config.lora.alpha = 2.0 * static_cast<double>(config.lora.rank);
  for (const auto& [reader, where] : {std::pair(&file, source), std::pair(&flags, std::string("command line"))})
    if (reader->has("warmup_ratio") && reader->has("warmup_steps"))
      throw Error(ErrorKind::kConfig, where, ": warmup_ratio and warmup_steps are both given; keep one");
  if (flags.has("warmup_ratio")) config.warmup_steps.reset();
  if (flags.has("warmup_steps")) config.warmup_ratio.reset();
  check_train_config(config, source, require_paths);
  return config;
}

TrainConfig read_train_config(const std::string& path, const std::vector<Override>& overrides) {
  if (path.empty()) return parse_train_config("", "command line", overrides);
  return parse_train_config(read_text_file(path), path, overrides);
}

std::string to_yaml(const TrainConfig& config) {
  std::string out;
  for (const ConfigBinding& binding : config_bindings()) {
    if (binding.write == nullptr) continue;
    const bool skip = binding.key.name == "warmup_ratio" && config.warmup_steps;
    if (!skip) out += std::string(binding.key.name) + ": " + binding.write(config) + "\n";
  }
  return out;
}

DataFiles find_data_files(const TrainConfig& config) {
  DataFiles files{config.train_file, config.eval_file, config.media_root};
  std::error_code error;
  if (fs::is_directory(config.train_file, error)) {
    const bool wants_held_out = files.eval.empty() && config.val_set_size == 0;
    const data::FolderFiles found = data::find_folder_files(config.train_file, wants_held_out);
    files.train = found.train;
    if (wants_held_out) files.eval = found.held_out;
  }
  if (!fs::is_regular_file(files.train, error))
    throw Error(ErrorKind::kConfig, "train_file '", config.train_file, "': ", files.train, " is no file");
  if (!files.eval.empty() && !fs::is_regular_file(files.eval, error))
    throw Error(ErrorKind::kConfig, "eval_file '", files.eval, "': no such file");
  if (files.media_root.empty()) {
    files.media_root = fs::path(files.train).parent_path().string();
    if (files.media_root.empty()) files.media_root = ".";
  }
  return files;
}

}  // namespace bezel::train
