#include "bezel/data/conversations.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bezel/data/chat_messages.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

// The role of render_chat for what ShareGPT's dialects call it; "call" is a turn that holds tool calls as JSON.
std::string_view role_of(std::string_view from) {
  constexpr std::pair<std::string_view, std::string_view> kRoles[] = {{"human", "user"},
                                                                      {"user", "user"},
                                                                      {"gpt", "assistant"},
                                                                      {"assistant", "assistant"},
                                                                      {"model", "assistant"},
                                                                      {"bot", "assistant"},
                                                                      {"system", "system"},
                                                                      {"developer", "system"},
                                                                      {"function_call", "call"},
                                                                      {"tool_call", "call"},
                                                                      {"observation", "tool"},
                                                                      {"tool", "tool"},
                                                                      {"function_response", "tool"},
                                                                      {"tool_response", "tool"}};
  for (const auto& [name, role] : kRoles)
    if (name == from) return role;
  return "";
}

Json content_of(std::string_view text, const input::PerKind<bool>& kinds) {
  Json parts = Json::array();
  const auto add_text = [&](std::string_view piece) {
    if (!piece.empty()) parts.push_back({{"type", "text"}, {"text", std::string(piece)}});
  };
  while (true) {
    std::size_t tag = std::string_view::npos;
    input::MediaKind first{};
    for (const input::MediaKind kind : input::kMediaKinds) {
      const auto at = kinds[kind] ? text.find("<" + std::string(input::kMediaWords[kind].part) + ">") : text.npos;
      if (at < tag) {
        tag = at;
        first = kind;
      }
    }
    if (tag == std::string_view::npos) break;
    add_text(text.substr(0, tag));
    parts.push_back({{"type", input::kMediaWords[first].part}});
    text.remove_prefix(tag + input::kMediaWords[first].part.size() + 2);
  }
  if (parts.empty()) return Json(std::string(text));
  add_text(text);
  return parts;
}

// {"name": ..., "arguments": ...} or a list of them, as the text of a turn.
Json calls_of(const std::string& text, const std::string& where) {
  Json calls = io::parse_json(text, where + ": its tool calls");
  if (calls.is_object()) calls = Json::array({std::move(calls)});
  if (!calls.is_array() || calls.empty())
    throw Error(where, ": expected a tool call as JSON: {\"name\": …, \"arguments\": …}");
  for (const Json& call : calls) JsonView(call, where, "tool call").at("name").text();
  return calls;
}

class Turns {
 public:
  explicit Turns(std::string source) : source_(std::move(source)) {}

  void add(const JsonView& turn) {
    const std::string where = source_ + ": message " + std::to_string(count_++);
    const bool is_chat = !turn.find("from") && turn.find("role");
    const std::string from = turn.at(is_chat ? "role" : "from").text();
    const std::string text = turn.at(is_chat ? "content" : "value").text();
    const std::string_view role = role_of(from);
    if (role.empty())
      throw Error(where, ": from '", from, "' is not known; expected system, human, gpt, function_call or observation");
    Json message = {{"role", role == "call" ? "assistant" : role}};
    if (role == "call") {
      calls_ = calls_of(text, where);
      message["tool_calls"] = calls_;
      answered_ = 0;
    } else if (role == "tool") {
      message["content"] = text;
      // The answers to several calls come in the order of the calls.
      if (!calls_.empty()) message["name"] = calls_[std::min(answered_++, calls_.size() - 1)]["name"];
    } else {
      message["content"] = text;
    }
    for (const std::string_view key : kLossKeys)
      if (const auto value = turn.find(key)) message[std::string(key)] = value->value();
    messages.push_back(std::move(message));
  }

  Json messages = Json::array();

 private:
  std::string source_;
  Json calls_ = Json::array();  // of the last turn that held some
  std::size_t answered_ = 0;
  std::size_t count_ = 0;
};

}  // namespace

Json messages_of_conversations(const JsonView& line) {
  Turns turns(line.source());
  for (const JsonView& turn : line.at("conversations").elements()) turns.add(turn);
  add_system(line, turns.messages);
  return std::move(turns.messages);
}

Json messages_of_instruction(const JsonView& line) {
  Json messages = Json::array();
  const auto add = [&](const std::string& request, const std::string& answer) {
    messages.push_back({{"role", "user"}, {"content", request}});
    messages.push_back({{"role", "assistant"}, {"content", answer}});
  };
  if (const auto history = line.find("history"))
    for (const JsonView& turn : history->elements()) {
      const std::vector<JsonView> pair = turn.elements();
      if (pair.size() != 2) turn.fail("a pair of request and answer");
      add(pair[0].text(), pair[1].text());
    }
  std::string request = line.at("instruction").text();
  if (const auto input = line.find("input"); input && !input->text().empty()) request += "\n\n" + input->text();
  add(request, line.at("output").text());
  add_system(line, messages);
  return messages;
}

void add_system(const JsonView& line, Json& messages) {
  const auto system = line.find("system");
  if (!system || system->text().empty() || !messages.is_array()) return;
  if (!messages.empty() && messages[0].is_object()) {
    const Json& first = messages[0];
    const auto role = first.find("role");
    if (role != first.end() && (*role == "system" || *role == "developer")) {
      if (first.contains("content") && first["content"] == system->value()) return;
      throw Error(line.source(), ": key 'system' stands beside a first message of the role system that says something ",
                  "else; write one of them");
    }
  }
  const Json message = {{"role", "system"}, {"content", system->text()}};
  messages.insert(messages.begin(), message);
}

void split_tags(Json& messages, const input::PerKind<bool>& kinds) {
  if (!messages.is_array()) return;
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("role") || message["role"] != "user") continue;
    const auto content = message.find("content");
    if (content != message.end() && content->is_string())
      *content = content_of(content->get_ref<const std::string&>(), kinds);
  }
}

}  // namespace bezel::data
