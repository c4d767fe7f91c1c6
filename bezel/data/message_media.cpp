#include "bezel/data/message_media.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bezel/error.h"
#include "bezel/input/media_kind.h"

namespace bezel::data {
namespace {

using io::Json;

using Words = input::MediaWords;

// The media of one kind that a message lists, taken out of it.
Json take_listed(Json& message, const Words& kind) {
  Json listed = Json::array();
  for (const std::string_view key : {kind.list, kind.part}) {
    const auto found = message.find(key);
    if (found == message.end()) continue;
    if (found->is_array())
      for (const Json& entry : *found) listed.push_back(entry);
    else if (!found->is_null() && *found != "")
      listed.push_back(*found);
    message.erase(key);
  }
  return listed;
}

// A text as parts: the marks of a kind become parts without a file.
Json split_marks(std::string_view text, const Words& kind) {
  Json parts = Json::array();
  while (!text.empty()) {
    const auto tag = text.find(kind.tag), typed = text.find(kind.placeholder);
    const auto at = std::min(tag, typed);
    if (at > 0) parts.push_back({{"type", "text"}, {"text", std::string(text.substr(0, at))}});
    if (at == std::string_view::npos) break;
    parts.push_back({{"type", kind.part}});
    text.remove_prefix(at + (tag < typed ? kind.tag : kind.placeholder).size());
  }
  return parts;
}

Json part_of(const Json& entry, const Words& kind) {
  return {{"type", kind.part}, {entry.is_string() ? std::string_view("path") : kind.part, entry}};
}

void place(Json& message, const Words& kind, const std::string& where) {
  const Json listed = take_listed(message, kind);
  if (listed.empty()) return;
  Json& content = message["content"];
  Json parts = content.is_string() ? split_marks(content.get_ref<const std::string&>(), kind) : content;
  if (parts.is_null()) parts = Json::array();
  if (!parts.is_array()) throw Error(where, ": its content is neither a string nor a list of parts");
  std::size_t next = 0;
  for (Json& part : parts) {
    if (!part.is_object() || part.size() != 1 || part != Json{{"type", kind.part}}) continue;
    if (next == listed.size())
      throw Error(where, ": marks more places for '", kind.list, "' than the ", listed.size(), " that it lists");
    part = part_of(listed[next++], kind);
  }
  Json all = Json::array();
  for (; next < listed.size(); ++next) all.push_back(part_of(listed[next], kind));
  for (const Json& part : parts) all.push_back(part);
  content = std::move(all);
}

}  // namespace

void place_message_media(Json& messages, const std::string& source) {
  if (!messages.is_array()) return;
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].is_object())
      for (const Words& kind : input::kMediaWords.values)
        place(messages[i], kind, source + ": message " + std::to_string(i));
}

}  // namespace bezel::data
