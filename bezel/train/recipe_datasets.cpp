#include "bezel/train/recipe_datasets.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <iterator>

#include "bezel/error.h"
#include "bezel/nearest.h"
#include "bezel/train/config_fields.h"
#include "bezel/train/foreign_keys.h"
#include "bezel/train/word_list.h"

namespace bezel::train {
namespace {

using Kind = ConfigValue::Kind;
using Names = data::ColumnMap::Names;

/// One item of `datasets` while it is read.
struct Item {
  DatasetEntry entry;
  std::vector<std::string> data_files;
  std::string data_dir;
  std::vector<std::string>* notes = nullptr;
};

void set_name(Names& names, const std::string& name, const std::string& theirs) {
  std::erase_if(names, [&](const auto& item) { return item.first == name; });
  names.emplace_back(name, theirs);
}

template <const char* const& Column>
void read_field(Item& item, const ConfigValue& value) {
  set_name(item.entry.file.columns.columns, Column, value.as_text());
}

template <const char* const& Key>
void read_message_field(Item& item, const ConfigValue& value) {
  set_name(item.entry.file.columns.message_keys, Key, value.as_text());
}

void add_names(Names& names, const Names& more) {
  for (const auto& [name, theirs] : more) set_name(names, name, theirs);
}

constexpr const char* kMessages = "messages";
constexpr const char* kSystem = "system";
constexpr const char* kTools = "tools";
constexpr const char* kText = "text";
constexpr const char* kInstruction = "instruction";
constexpr const char* kInput = "input";
constexpr const char* kOutput = "output";
constexpr const char* kChosen = "chosen";
constexpr const char* kRejected = "rejected";
constexpr const char* kRole = "role";
constexpr const char* kContent = "content";
constexpr const char* kTrain = "train";
constexpr const char* kReasoning = "reasoning";

void read_path(Item& item, const ConfigValue& value) { item.entry.file.path = value.as_text(); }
void read_media_root(Item& item, const ConfigValue& value) { item.entry.file.media_root = value.as_text(); }
void read_data_dir(Item& item, const ConfigValue& value) { item.data_dir = value.as_text(); }
void read_data_files(Item& item, const ConfigValue& value) { item.data_files = value.as_texts(); }
void read_item_split(Item& item, const ConfigValue& value) { set_split(item.entry, value.as_text(), value.where); }

void read_weight(Item& item, const ConfigValue& value) {
  item.entry.file.weight = value.as_number();
  if (!(item.entry.file.weight > 0 && item.entry.file.weight <= 1000)) value.fail("a number above 0, at most 1000");
}

void read_max_samples(Item& item, const ConfigValue& value) {
  const std::int64_t count = value.as_whole();
  if (count < 1) value.fail("a number of samples from 1");
  item.entry.file.max_samples = static_cast<std::size_t>(count);
}

void read_kind_of_file(Item&, const ConfigValue& value) {
  const std::string kind = value.lower_text();
  if (kind != "json" && kind != "jsonl" && kind != "csv" && kind != "tsv")
    value.fail("json or csv; Bezel reads JSON Lines, JSON and CSV");
}

// axolotl's own prompt formats: field_instruction, field_input …, and texts around them.
void read_custom_type(Item& item, const ConfigValue& value) {
  for (const ConfigMember& member : value.members) {
    const std::string column = member.name.starts_with("field_") ? member.name.substr(6) : "";
    const auto known = data::mapped_columns();
    if (std::ranges::find(known, column) != known.end())
      set_name(item.entry.file.columns.columns, column, member.value.as_text());
    else if (!member.value.is_off() && member.value.text != "{instruction}" &&
             member.value.text != "{instruction} {input}")
      member.value.fail("nothing: prompts are written in the model's own chat format; delete this key");
  }
}

// The form of a sample follows from the keys of its line, names of columns from the field_ keys: a type adds nothing.
void read_type(Item& item, const ConfigValue& value) {
  if (value.kind == Kind::kMap) return read_custom_type(item, value);
  const std::string type = value.lower_text();
  const bool known = std::ranges::any_of(
      std::to_array<std::string_view>({"chat_template", "sharegpt", "completion", "alpaca", "messages", "text"}),
      [&](std::string_view name) { return type.starts_with(name); });
  if (!known) value.fail("chat_template, sharegpt, completion, alpaca, or a map of field_ keys");
  if (type.starts_with("alpaca"))
    item.notes->push_back(value.where + ": type alpaca: instructions become chats in the model's own format");
}

void read_item_columns(Item& item, const ConfigValue& value) {
  add_names(item.entry.file.columns.columns, read_columns(value));
}
void read_item_message_keys(Item& item, const ConfigValue& value) {
  add_names(item.entry.file.columns.message_keys, read_message_keys(value));
}
void read_item_roles(Item& item, const ConfigValue& value) { item.entry.file.columns.roles = read_roles(value); }

[[noreturn]] void refuse(const ConfigValue& value, std::string_view advice) {
  throw Error(ErrorKind::kConfig, value.where, ": key '", value.key, "': ", advice);
}

void refuse_shards(Item&, const ConfigValue& value) { refuse(value, "write weight: 0.1 for a tenth of the samples"); }
void refuse_fraction(Item&, const ConfigValue& value) {
  refuse(value, "write weight: how many times an epoch visits each sample, such as 0.5 or 2");
}
void refuse_name(Item&, const ConfigValue& value) {
  if (value.lower_text() != "default") refuse(value, "files have no configurations; name the file as path");
}
void refuse_format(Item&, const ConfigValue& value) {
  if (!value.is_off()) refuse(value, "prompts are written in the model's own chat format; delete it");
}

struct ItemKey {
  std::string_view names;
  void (*read)(Item& item, const ConfigValue& value);
};

constexpr ItemKey kKeys[] = {
    {"path file file_name dataset", read_path},
    {"data_files", read_data_files},
    {"data_dir", read_data_dir},
    {"ds_type", read_kind_of_file},
    {"split", read_item_split},
    {"type formatting", read_type},
    {"media_root media_dir image_folder", read_media_root},
    {"weight", read_weight},
    {"max_samples num_samples size", read_max_samples},
    {"columns", read_item_columns},
    {"message_property_mappings", read_item_message_keys},
    {"roles", read_item_roles},
    {"field_messages", read_field<kMessages>},
    {"field_system", read_field<kSystem>},
    {"field_tools", read_field<kTools>},
    {"field field_text text_column", read_field<kText>},
    {"field_instruction", read_field<kInstruction>},
    {"field_input", read_field<kInput>},
    {"field_output", read_field<kOutput>},
    {"field_chosen", read_field<kChosen>},
    {"field_rejected", read_field<kRejected>},
    {"message_field_role", read_message_field<kRole>},
    {"message_field_content", read_message_field<kContent>},
    {"message_field_training", read_message_field<kTrain>},
    {"field_thinking template_thinking_key", read_message_field<kReasoning>},
    {"shards shards_idx", refuse_shards},
    {"fraction", refuse_fraction},
    {"name subset", refuse_name},
    {"message_field_training_detail drop_system_message split_thinking conversation system_prompt system_format format "
     "no_input_format input_format input_transform skip logprobs_field",
     refuse_format},
    {"preprocess_shards", [](Item&, const ConfigValue&) {}},
};

void read_unlisted(const ConfigMember& member) {
  if (const ForeignKey* key = find_foreign_key(member.name)) {
    if (!accepts(*key, member.value)) refuse(member.value, key->advice);
    return;
  }
  std::vector<std::string_view> names;
  for (const ItemKey& key : kKeys) names.push_back(key.names.substr(0, key.names.find(' ')));
  const std::string near = nearest_name(member.name, names);
  throw Error(ErrorKind::kConfig, member.value.where, ": unknown key '", member.name.substr(0, 80), "' of a data set (",
              near.empty() ? "delete it" : "did you mean '" + near + "'?", ")");
}

bool is_loader(const std::string& path) { return path == "json" || path == "csv" || path == "text"; }

// One entry for each of data_files, below `path` unless that is the name of a loader.
void add_entries(Item item, const ConfigValue& value, std::vector<DatasetEntry>& entries) {
  DatasetEntry& entry = item.entry;
  if (entry.file.path.empty()) value.fail("a map with the key 'path'");
  if (is_loader(entry.file.path) && item.data_files.empty())
    value.fail("data_files beside path: " + entry.file.path + ", which names no file");
  const std::filesystem::path folder =
      std::filesystem::path(is_loader(entry.file.path) ? "" : entry.file.path) / item.data_dir;
  if (item.data_files.empty()) {
    if (!item.data_dir.empty()) entry.file.path = folder.string();
    entries.push_back(entry);
    return;
  }
  for (const std::string& name : item.data_files) {
    entry.file.path = (folder / name).string();
    entries.push_back(entry);
  }
}

void read_item(const ConfigValue& value, std::vector<DatasetEntry>& entries, std::vector<std::string>& notes) {
  Item item{
      .entry = {.file = {}, .split = "", .where = value.where}, .data_files = {}, .data_dir = "", .notes = &notes};
  if (value.kind == Kind::kScalar) {
    item.entry.file.path = value.as_text();
    return add_entries(std::move(item), value, entries);
  }
  if (value.kind != Kind::kMap) value.fail("a path, or a map with the key 'path'");
  for (const ConfigMember& member : value.members) {
    if (member.value.is_empty()) continue;
    const auto* const key =
        std::ranges::find_if(kKeys, [&](const ItemKey& row) { return is_listed(row.names, member.name); });
    if (key == std::end(kKeys))
      read_unlisted(member);
    else
      key->read(item, member.value);
  }
  add_entries(std::move(item), value, entries);
}

}  // namespace

std::vector<DatasetEntry> read_dataset_entries(const ConfigValue& value, std::vector<std::string>& notes) {
  std::vector<DatasetEntry> entries;
  if (value.kind != Kind::kList)
    read_item(value, entries, notes);
  else
    for (const ConfigValue& item : value.items) read_item(item, entries, notes);
  return entries;
}

void set_split(DatasetEntry& entry, const std::string& split, const std::string& where) {
  const auto bracket = split.find('[');
  entry.split = split.substr(0, bracket);
  if (bracket == std::string::npos) return;
  const auto fail = [&] {
    throw Error(ErrorKind::kConfig, where, ": split '", split.substr(0, 80),
                "': expected a name, alone or with a first part: train[:1000], train[:10%]");
  };
  std::string_view slice = std::string_view(split).substr(bracket);
  if (!slice.starts_with("[:") || !slice.ends_with(']')) fail();
  slice = slice.substr(2, slice.size() - 3);
  const bool is_share = slice.ends_with('%');
  if (is_share) slice.remove_suffix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(slice.data(), slice.data() + slice.size(), number);
  if (error != std::errc() || end != slice.data() + slice.size() || !(number > 0) || number > (is_share ? 100 : 1e12))
    fail();
  if (is_share)
    entry.file.first_share = number / 100;
  else
    entry.file.max_samples = static_cast<std::size_t>(number);
}

std::string known_column(const std::string& name, bool is_instruction) {
  if (name == "query") return "input";
  if (name == "response") return "output";
  if (name == "kto_tag") return "label";
  return name == "prompt" && is_instruction ? "instruction" : name;
}

Names read_columns(const ConfigValue& value) {
  if (value.kind != Kind::kMap)
    value.fail("a map from Bezel's columns to those of the data, such as {messages: dialog}");
  const bool is_instruction = std::ranges::any_of(
      value.members, [](const ConfigMember& item) { return item.name == "query" || item.name == "response"; });
  Names names;
  for (const ConfigMember& member : value.members) {
    if (member.value.is_empty()) continue;
    const std::string name = known_column(member.name, is_instruction);
    const auto known = data::mapped_columns();
    if (std::ranges::find(known, name) == known.end())
      throw Error(ErrorKind::kConfig, member.value.where, ": '", member.name.substr(0, 80),
                  "' is no column that can be named; expected messages, prompt, completion, instruction, input, "
                  "output, history, text, system, tools, images, audios, chosen, rejected or label");
    names.emplace_back(name, member.value.as_text());
  }
  return names;
}

Names read_message_keys(const ConfigValue& value) {
  if (value.kind != Kind::kMap) value.fail("a map such as {role: from, content: value}");
  Names names;
  for (const ConfigMember& member : value.members)
    if (!member.value.is_empty()) names.emplace_back(member.name, member.value.as_text());
  return names;
}

Names read_roles(const ConfigValue& value) {
  if (value.kind != Kind::kMap) value.fail("a map such as {user: [human], assistant: [gpt]}");
  Names names;
  for (const ConfigMember& member : value.members)
    for (const std::string& theirs : member.value.as_texts()) names.emplace_back(theirs, member.name);
  return names;
}

std::string show_names(const Names& names) { return show(names); }

std::string show_roles(const Names& roles) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& [theirs, ours] : roles) {
    auto group = std::ranges::find_if(groups, [&](const auto& item) { return item.first == ours; });
    if (group == groups.end()) group = groups.insert(group, {ours, {}});
    group->second.push_back(theirs);
  }
  return show(groups);
}

std::string show_entries(const std::vector<DatasetEntry>& entries) {
  std::string out = "[";
  for (const DatasetEntry& entry : entries) {
    const data::SampleFile& file = entry.file;
    std::string text = "{path: " + show(file.path);
    std::string split = entry.split;
    if (file.first_share < 1) split = (split.empty() ? "train" : split) + "[:" + show(file.first_share * 100) + "%]";
    if (!split.empty()) text += ", split: " + show(split);
    if (!file.media_root.empty()) text += ", media_root: " + show(file.media_root);
    if (file.weight != 1) text += ", weight: " + show(file.weight);
    if (file.max_samples) text += ", max_samples: " + std::to_string(*file.max_samples);
    if (!file.columns.columns.empty()) text += ", columns: " + show_names(file.columns.columns);
    if (!file.columns.message_keys.empty())
      text += ", message_property_mappings: " + show_names(file.columns.message_keys);
    if (!file.columns.roles.empty()) text += ", roles: " + show_roles(file.columns.roles);
    out += (out.size() > 1 ? ", " : "") + text + "}";
  }
  return out + "]";
}

}  // namespace bezel::train
