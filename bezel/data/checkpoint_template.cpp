#include "bezel/data/checkpoint_template.h"

#include <algorithm>
#include <filesystem>

#include "bezel/error.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/mapped_file.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTemplateBytes = 1u << 20;  // released ones have some 20 KB

std::string read_template(const std::string& path) {
  const auto file = io::MappedFile::open(path);
  if (file->size_bytes() > kMaxTemplateBytes)
    throw Error(path, ": ", file->size_bytes(), " bytes, at most ", kMaxTemplateBytes, " are read as a chat template");
  return {reinterpret_cast<const char*>(file->data()), file->size_bytes()};
}

std::string path_in(const std::string& folder, const char* name) { return (fs::path(folder) / name).string(); }

}  // namespace

void CheckpointTemplate::add(const std::string& name, const std::string& source, const std::string& path) {
  if (source.size() > kMaxTemplateBytes)
    throw Error(path, ": ", source.size(), " bytes, at most ", kMaxTemplateBytes, " are read as a chat template");
  Named& added = templates_.insert_or_assign(name, Named{source}).first->second;
  try {
    added.parsed = jinja::Template::parse(source, path);
  } catch (const Error& error) {
    added.problem = error;
  }
}

// A template, or a list of {name, template}.
void CheckpointTemplate::add_value(const io::JsonView& value) {
  path_ = value.source();
  if (!value.is_array()) return add("default", value.text(), value.source() + ": chat_template");
  for (const io::JsonView& item : value.elements()) {
    const std::string name = item.at("name").text();
    add(name, item.at("template").text(), value.source() + ": chat_template '" + name + "'");
  }
}

bool CheckpointTemplate::read_folder(const std::string& folder) {
  path_ = path_in(folder, "chat_template.jinja");
  if (io::is_there(path_)) {
    add("default", read_template(path_), path_);
    const fs::path others = fs::path(folder) / "additional_chat_templates";
    if (!fs::is_directory(others)) return true;
    for (const auto& entry : fs::directory_iterator(others))
      if (entry.path().extension() == ".jinja")
        add(entry.path().stem().string(), read_template(entry.path().string()), entry.path().string());
    return true;
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = path_in(folder, name);
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    const auto value = io::JsonView(json, path).find("chat_template");
    if (!value) continue;
    add_value(*value);
    return true;
  }
  return false;
}

void CheckpointTemplate::read_special_tokens(const std::string& folder) {
  // Those of transformers' GemmaTokenizer.
  special_tokens_ = {{"bos_token", "<bos>"},
                     {"eos_token", "<eos>"},
                     {"unk_token", "<unk>"},
                     {"pad_token", "<pad>"},
                     {"mask_token", "<mask>"}};
  const std::string path = path_in(folder, "tokenizer_config.json");
  if (io::is_gguf_path(folder) || !io::is_there(path)) return;
  const io::Json json = io::read_json_file(path);
  const io::JsonView config(json, path);
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (json.is_object() && json.contains(name) && json[name].is_null()) special_tokens_.erase(name);
    const auto token = config.find(name);
    if (token) special_tokens_[name] = token->is_string() ? token->text() : token->at("content").text();
  }
}

std::shared_ptr<const CheckpointTemplate> CheckpointTemplate::load(const std::string& model, const std::string& file) {
  const std::shared_ptr<CheckpointTemplate> out(new CheckpointTemplate());
  if (!file.empty()) {
    out->path_ = file;
    out->add("default", read_template(file), file);
    out->choose(false);
  } else if (io::is_gguf_path(model)) {
    const auto gguf = io::GgufFile::open(model);
    const io::GgufValue* text = gguf->get("tokenizer.chat_template");
    if (text == nullptr) return nullptr;
    out->path_ = model;
    out->add("default", text->text(), model + ": tokenizer.chat_template");
  } else if (!out->read_folder(model)) {
    return nullptr;
  }
  out->read_special_tokens(model);
  return out;
}

const CheckpointTemplate::Named& CheckpointTemplate::named(bool with_tools) const {
  const auto found = templates_.find(with_tools && templates_.contains("tool_use") ? "tool_use" : "default");
  if (found != templates_.end()) return found->second;
  std::string names;
  for (const auto& [name, one] : templates_) names += (names.empty() ? "" : ", ") + name;
  throw Error(path_, ": none of its chat templates is called default; name a file: chat_template: FILE. It has ",
              names);
}

const jinja::Template& CheckpointTemplate::choose(bool with_tools) const {
  const Named& chosen = named(with_tools);
  if (chosen.problem) throw *chosen.problem;
  return *chosen.parsed;
}

bool CheckpointTemplate::is_usable() const {
  const auto found = templates_.find("default");
  return found != templates_.end() && !found->second.problem;
}

bool CheckpointTemplate::mentions(const std::string& name, bool with_tools) const {
  return named(with_tools).source.find(name) != std::string::npos;
}

const TurnMarks& CheckpointTemplate::marks(const io::Json& variables, bool with_tools) const {
  const std::string key = (with_tools ? "tools " : "") + variables.dump();
  const std::lock_guard lock(mutex_);
  const auto known = marks_.find(key);
  return known != marks_.end() ? known->second
                               : marks_.emplace(key, find_turn_marks(choose(with_tools), variables)).first->second;
}

}  // namespace bezel::data
