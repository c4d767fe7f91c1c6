#include "bezel/data/chat_messages.h"

#include <cstdint>
#include <optional>

#include "bezel/data/utf8.h"
#include "bezel/error.h"

namespace bezel::data {

using io::JsonView;

namespace {

Role read_role(const JsonView& message, std::size_t idx) {
  const auto role = message.find("role");
  const std::string name = role && role->is_string() ? role->text() : "";
  if (name == "system" || name == "developer") return Role::kSystem;
  if (name == "user") return Role::kUser;
  if (name == "assistant" || name == "model") return Role::kModel;
  if (name == "tool") return Role::kTool;
  throw Error(message.source(), ": message ", idx, ": role '", name,
              "' is not known; expected system, developer, user, assistant, model or tool");
}

// What Python's str.strip() takes off, which the template uses.
bool is_blank(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool read_switch(const JsonView& value) {
  const io::Json& json = value.value();
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number() && (json == 0 || json == 1)) return json == 1;
  if (json.is_string()) {
    std::string text = json.get<std::string>();
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (text == "true" || text == "1" || text == "yes") return true;
    if (text == "false" || text == "0" || text == "no") return false;
  }
  value.fail("true, false, 1 or 0; a message is learnt or it is not");
}

}  // namespace

bool ChatMessage::is_trained() const {
  std::optional<bool> trained;
  for (const std::string_view key : kLossKeys) {
    const auto value = json.find(key);
    if (!value) continue;
    const bool says_masked = key == "mask" || key == "masked";
    const bool wanted = read_switch(*value) != says_masked;
    if (trained && *trained != wanted) fail("two keys disagree about its loss; write \"train\" alone");
    trained = wanted;
  }
  return trained.value_or(true);
}

void ChatMessage::fail(std::string_view what) const { throw Error(json.source(), ": message ", idx, ": ", what); }

std::vector<ChatMessage> read_chat_messages(const JsonView& list) {
  if (!list.is_array()) list.fail("a list of messages");
  std::vector<ChatMessage> out;
  for (const JsonView& item : list.elements()) {
    if (!item.is_object()) item.fail("a message, that is, an object with role and content");
    out.push_back({read_role(item, out.size()), out.size(), item});
  }
  return out;
}

bool is_model(const io::Json& message) {
  const auto role = message.find("role");
  return role != message.end() && (*role == "assistant" || *role == "model");
}

std::string trimmed(std::string_view text) {
  // What a model says may end inside a character.
  const auto is_blank_at = [&](std::size_t at) {
    return at + utf8_length(text[at]) <= text.size() && is_blank(utf8_code_point(text, at));
  };
  while (!text.empty() && is_blank_at(0)) text.remove_prefix(utf8_length(text[0]));
  while (!text.empty() && is_blank_at(last_character(text))) text = text.substr(0, last_character(text));
  return std::string(text);
}

}  // namespace bezel::data
