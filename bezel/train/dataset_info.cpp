#include "bezel/train/dataset_info.h"

#include <algorithm>
#include <filesystem>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/nearest.h"
#include "bezel/train/recipe_datasets.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;
using io::JsonView;

std::string name_list(const std::vector<std::string_view>& names) {
  constexpr std::size_t kMost = 20;
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) list.append(i == 0 ? "" : ", ").append(names[i]);
  return names.size() > kMost ? list + ", …" : list;
}

void read_columns(const JsonView& columns, bool is_turns, data::ColumnMap& map) {
  for (const auto& [name, value] : columns.members()) {
    if (value.is_null() || (value.is_string() && value.text().empty())) continue;
    const std::string known = known_column(name, !is_turns);
    const auto all = data::mapped_columns();
    if (std::ranges::find(all, known) == all.end())
      throw Error(ErrorKind::kConfig, columns.source(), ": key '", value.key(),
                  "' is no column; expected prompt, query, ",
                  "response, history, messages, chosen, rejected, kto_tag, system, tools, images, audios or videos");
    map.columns.emplace_back(known, value.text());
  }
}

void read_tags(const JsonView& tags, data::ColumnMap& map) {
  constexpr std::pair<std::string_view, std::string_view> kRoles[] = {{"user_tag", "user"},
                                                                      {"assistant_tag", "assistant"},
                                                                      {"observation_tag", "observation"},
                                                                      {"function_tag", "function_call"},
                                                                      {"system_tag", "system"}};
  for (const auto& [name, value] : tags.members()) {
    if (value.is_null() || value.text().empty()) continue;
    const auto* const role =
        std::ranges::find_if(kRoles, [&name = name](const auto& item) { return item.first == name; });
    if (name == "role_tag")
      map.message_keys.emplace_back("role", value.text());
    else if (name == "content_tag")
      map.message_keys.emplace_back("content", value.text());
    else if (role != std::end(kRoles))
      map.roles.emplace_back(value.text(), role->second);
    else
      throw Error(ErrorKind::kConfig, tags.source(), ": key '", value.key(), "' is no tag; expected role_tag, ",
                  "content_tag, user_tag, assistant_tag, observation_tag, function_tag or system_tag");
  }
}

[[noreturn]] void refuse_hub(const JsonView& value, const std::string& name) {
  throw Error(ErrorKind::kConfig, value.source(), ": key '", value.key(), "': the data set '", name,
              "' is not on this machine and Bezel downloads nothing; save it as JSON Lines and write its name as "
              "file_name, or as train_file in the config");
}

void read_setting(const std::string& key, const JsonView& value, bool is_turns, DatasetEntry& entry) {
  if (value.is_null()) return;
  if (key == "hf_hub_url" || key == "ms_hub_url" || key == "om_hub_url" || key == "script_url" ||
      key == "cloud_file_name")
    return refuse_hub(value, value.text());
  if (key == "split") return set_split(entry, value.text(), value.source());
  if (key == "num_samples")
    entry.file.max_samples = static_cast<std::size_t>(value.whole(1));
  else if (key == "columns")
    read_columns(value, is_turns, entry.file.columns);
  else if (key == "tags")
    read_tags(value, entry.file.columns);
  else if (key == "subset" || key == "folder")
    throw Error(ErrorKind::kConfig, value.source(), ": key '", value.key(),
                "': files have no parts; name the file as file_name");
  else if (key != "file_name" && key != "formatting" && key != "ranking" && key != "file_sha1")
    throw Error(ErrorKind::kConfig, value.source(), ": unknown key '", value.key(), "'; expected file_name, ",
                "formatting, columns, tags, split or num_samples");
}

DatasetEntry read_entry(const JsonView& info, const std::string& dir) {
  DatasetEntry entry;
  entry.where = info.source() + ": " + info.key();
  std::string form = "alpaca";
  if (const auto formatting = info.find("formatting")) form = formatting->text();
  if (form != "alpaca" && form != "sharegpt" && form != "openai")
    info.at("formatting").fail("alpaca, sharegpt or openai");
  for (const auto& [key, value] : info.members()) read_setting(key, value, form != "alpaca", entry);
  entry.file.path = (fs::path(dir) / info.at("file_name").text()).string();
  return entry;
}

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

}  // namespace

std::vector<DatasetEntry> find_named_datasets(const std::vector<std::string>& names, const std::string& dir,
                                              const std::string& key) {
  std::vector<DatasetEntry> entries;
  const std::string path = (fs::path(dir) / "dataset_info.json").string();
  io::Json info;
  for (const std::string& name : names) {
    const bool is_path = name.find('/') != std::string::npos || name.find('.') != std::string::npos;
    if (is_path && exists(name)) {
      entries.push_back({.file = {.path = name}, .split = "", .where = key});
      continue;
    }
    if (info.is_null() && !exists(path))
      throw Error(ErrorKind::kConfig, key, ": '", name, "' is a name in dataset_info.json, but there is no file ", path,
                  "; give the samples as train_file: FILE, or name the folder as dataset_dir");
    if (info.is_null()) info = io::read_json_file(path);
    const JsonView view(info, path);
    if (const auto found = view.find(name)) {
      entries.push_back(read_entry(*found, dir));
      continue;
    }
    std::vector<std::string_view> known;
    for (const auto& [other, value] : info.items()) known.push_back(other);
    const std::string near = nearest_name(name, known);
    throw Error(ErrorKind::kConfig, key, ": ", path, " has no data set '", name, "'",
                near.empty() ? "; it has " + name_list(known) : "; did you mean '" + near + "'?");
  }
  return entries;
}

}  // namespace bezel::train
