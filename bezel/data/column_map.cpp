#include "bezel/data/column_map.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::string_view kColumns[] = {"messages", "conversations", "prompt",  "completion", "instruction", "output",
                                         "text",     "input",         "history", "system",     "tools",       "images",
                                         "audios",   "videos",        "chosen",  "rejected",   "label"};
// The first of them make a form of sample and must be there; the rest may be missing from a line.
constexpr std::size_t kNumForms = 7;
constexpr std::size_t kNumFormColumns = 9;

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::string names_of(const Json& line) {
  std::string names;
  for (const auto& [name, value] : line.items()) names += (names.empty() ? "" : ", ") + name;
  return names.substr(0, 200);
}

Json rename_columns(const JsonView& line, const ColumnMap::Names& columns) {
  const Json& given = line.value();
  // Bezel's own names, written out, ask for nothing: a line of another form is read as it is.
  if (std::ranges::all_of(columns,
                          [&](const auto& item) { return item.first == item.second && !given.contains(item.first); }))
    return given;
  const std::span<const std::string_view> forms(kColumns, kNumForms), form_columns(kColumns, kNumFormColumns);
  Json out = Json::object();
  for (const auto& [name, theirs] : columns) {
    if (const auto found = given.find(theirs); found != given.end())
      out[name] = *found;
    else if (is_one_of(forms, name))
      throw Error(line.source(), ": no column '", theirs, "', which the config names as the column of '", name,
                  "'; the line has {", names_of(given), "}");
  }
  const bool names_form = std::ranges::any_of(columns, [&](const auto& item) { return is_one_of(forms, item.first); });
  for (const auto& [name, value] : given.items()) {
    const bool is_read = std::ranges::any_of(columns, [&](const auto& item) { return item.second == name; });
    const bool is_other_form = names_form && is_one_of(form_columns, name);
    if (!is_read && !is_other_form && !out.contains(name)) out[name] = value;
  }
  return out;
}

void rename_message(Json& message, const ColumnMap& map) {
  if (!message.is_object()) return;
  Json out = message;
  for (const auto& [name, theirs] : map.message_keys) {
    if (theirs == name || !message.contains(theirs)) continue;
    out[name] = message[theirs];
    const bool is_other = std::ranges::any_of(map.message_keys, [&](const auto& item) { return item.first == theirs; });
    if (!is_other) out.erase(theirs);
  }
  for (const char* key : {"role", "from"}) {
    const auto role = out.find(key);
    if (role == out.end() || !role->is_string()) continue;
    const std::string name = role->get<std::string>();
    for (const auto& [theirs, ours] : map.roles)
      if (theirs == name) *role = ours;
  }
  message = std::move(out);
}

// Turns as ShareGPT writes them, whatever their column is called.
bool are_turns(const Json& list) {
  constexpr std::string_view kRoles[] = {"user", "assistant", "model", "system", "developer", "tool"};
  return std::ranges::any_of(list, [&](const Json& message) {
    if (!message.is_object()) return false;
    const auto role = message.find("role");
    if (role == message.end()) return message.contains("from");
    return role->is_string() && !is_one_of(kRoles, role->get_ref<const std::string&>());
  });
}

}  // namespace

std::span<const std::string_view> mapped_columns() { return kColumns; }

Json apply_column_map(const JsonView& line, const ColumnMap& map) {
  if (map.empty() || !line.is_object()) return line.value();
  Json out = rename_columns(line, map.columns);
  for (const char* column : {"chosen", "rejected"}) {
    const auto answer = out.find(column);
    if (answer == out.end()) continue;
    if (answer->is_object()) rename_message(*answer, map);
    if (answer->is_array())
      for (Json& message : *answer) rename_message(message, map);
  }
  for (const char* column : {"messages", "conversations"}) {
    const auto found = out.find(column);
    if (found == out.end()) continue;
    Json list = *found;
    io::JsonLimits limits;
    limits.keeps_big_integers = true;
    if (list.is_string() && list.get_ref<const std::string&>().starts_with('['))
      list = io::parse_json(Json(list).get<std::string>(), line.source() + ": key '" + column + "'", limits);
    if (!list.is_array()) continue;
    for (Json& message : list) rename_message(message, map);
    out.erase(column);
    const char* const form = are_turns(list) ? "conversations" : "messages";
    out[form] = std::move(list);
    break;
  }
  return out;
}

std::string to_text(const ColumnMap& map) {
  std::string text;
  for (const auto* names : {&map.columns, &map.message_keys, &map.roles}) {
    for (const auto& [from, to] : *names) text += from + '\0' + to + '\0';
    text += '\n';
  }
  return text;
}

}  // namespace bezel::data
