#include "bezel/data/sample_notes.h"

#include <array>
#include <vector>

#include "bezel/data/chat_messages.h"
#include "bezel/data/chat_template.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::array<const char*, 2> kThoughtKeys = {"reasoning", "reasoning_content"};
constexpr std::string_view kOpenThought = "<|channel>";
constexpr std::string_view kCloseThought = "<channel|>";

// The texts of a message's content, one after the other.
std::string content_text(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return "";
  if (content->is_string()) return content->get<std::string>();
  std::string out;
  if (content->is_array())
    for (const Json& part : *content)
      if (part.is_object() && part.contains("text") && part["text"].is_string()) out += part["text"].get<std::string>();
  return out;
}

std::string thought_of(const Json& message) {
  for (const char* key : kThoughtKeys) {
    const auto thought = message.find(key);
    if (thought == message.end() || !thought->is_string()) continue;
    std::string text = trimmed(thought->get_ref<const std::string&>());
    if (!text.empty()) return text;
  }
  return "";
}

bool has_media_part(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end() || !content->is_array()) return false;
  for (const Json& part : *content)
    if (part.is_object() && part.contains("type") && part["type"] != "text") return true;
  return false;
}

bool holds_list(const Json& message, const char* key) {
  const auto list = message.find(key);
  return list != message.end() && list->is_array() && !list->empty();
}

// Whether a thought between <|channel> and <channel|> of the content is missing in `text`.
bool drops_marked_thought(const std::string& content, std::string_view text) {
  const auto begin = content.find(kOpenThought);
  if (begin == std::string::npos) return false;
  const auto end = content.find(kCloseThought, begin);
  return text.find(std::string_view(content).substr(begin, end == std::string::npos ? end : end - begin)) == text.npos;
}

// Whether the template gives the same text without the keys that hold thoughts.
bool ignores_thoughts(const Json& messages, std::string_view text,
                      const std::function<std::string(const Json&)>& render) {
  Json bare = messages;
  for (Json& message : bare)
    for (const char* key : kThoughtKeys) message.erase(key);
  try {
    return render(bare) == text;
  } catch (const Error&) {
    return false;  // a template may refuse messages without them
  }
}

}  // namespace

SampleNotes note_messages(const JsonView& messages, std::string_view text,
                          const std::function<std::string(const Json&)>& render) {
  SampleNotes notes;
  std::vector<std::string> thoughts;
  for (const ChatMessage& message : read_chat_messages(messages)) {
    const Json& json = message.json.value();
    if (!is_model(json)) continue;
    const std::string content = content_text(json);
    std::string thought = thought_of(json);
    if (!thought.empty())
      thoughts.push_back(std::move(thought));
    else
      notes.thoughts_left_out += drops_marked_thought(content, text);
    const bool acts = holds_list(json, "tool_calls") || holds_list(json, "tool_responses") || has_media_part(json);
    notes.empty_answers += !acts && message.is_trained() && without_thoughts(content).empty();
  }
  if (thoughts.empty()) return notes;
  const bool all = ignores_thoughts(messages.value(), text, render);
  for (const std::string& thought : thoughts) notes.thoughts_left_out += all || text.find(thought) == text.npos;
  return notes;
}

}  // namespace bezel::data
