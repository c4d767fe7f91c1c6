#include "bezel/data/chat_gemma3.h"

#include "bezel/data/chat_messages.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::JsonView;

// The texts of a message, one after the other. The template trims those of turns, and takes the system's as it is.
std::string text_of(const ChatMessage& message, bool trims) {
  const auto content = message.json.find("content");
  if (!content) message.fail("it has no content");
  const auto taken = [&](const JsonView& text) { return trims ? trimmed(text.text()) : text.text(); };
  if (content->is_string()) return taken(*content);
  if (!content->is_array()) message.fail("its content is neither a string nor a list of parts");
  const auto parts = content->elements();
  if (message.role == Role::kSystem && parts.size() != 1)
    message.fail("its content has " + std::to_string(parts.size()) + " parts; Gemma 3's template takes one text there");
  std::string out;
  for (const JsonView& part : parts) {
    const auto type = part.is_object() ? part.find("type") : std::nullopt;
    if (!type || !type->is_string()) message.fail("a part of the content has no type");
    if (type->text() != "text")
      message.fail("a part has the type '" + type->text() + "'; Gemma 3's text models take text only");
    const auto text = part.find("text");
    if (!text || !text->is_string()) message.fail("a text part has no string 'text'");
    out += taken(*text);
  }
  return out;
}

void check_turn(const ChatMessage& message, std::size_t turn) {
  if (message.role == Role::kTool || message.json.find("tool_calls")) message.fail("Gemma 3's template has no tools");
  const Role wanted = turn % 2 == 0 ? Role::kUser : Role::kModel;
  if (message.role != wanted)
    message.fail(wanted == Role::kUser ? "a user turn belongs here; Gemma 3's template takes user and model by turns"
                                       : "a model turn belongs here; Gemma 3's template takes user and model by turns");
}

}  // namespace

RenderedChat render_gemma3_chat(const JsonView& list, const io::Json* tools, const ChatOptions& options) {
  const std::vector<ChatMessage> messages = read_chat_messages(list);
  if (tools != nullptr && !tools->is_null() && !tools->empty())
    throw Error(list.source(), ": key 'tools': Gemma 3's template has no tools");
  if (options.enable_thinking) throw Error(list.source(), ": Gemma 3's template has no thinking");
  RenderedChat out{.text = "<bos>", .loss_spans = {}, .left_out = {}};
  const std::size_t first = !messages.empty() && messages[0].role == Role::kSystem ? 1 : 0;
  for (std::size_t i = first; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    check_turn(message, i - first);
    const std::size_t begin = out.text.size();
    const bool is_model = message.role == Role::kModel;
    out.text += is_model ? "<start_of_turn>model\n" : "<start_of_turn>user\n";
    if (i == 1 && first == 1) {
      const std::size_t system = out.text.size();
      out.text += text_of(messages[0], /*trims=*/false) + "\n\n";
      if (!messages[0].is_trained()) out.left_out.emplace_back(system, out.text.size());
    }
    const std::size_t body = out.text.size();
    out.text += text_of(message, /*trims=*/true) + "<end_of_turn>";
    if (is_model && options.mask_history) out.loss_spans.clear();
    if (is_model && message.is_trained()) out.loss_spans.emplace_back(body, out.text.size());
    out.text += "\n";
    if (!message.is_trained()) out.left_out.emplace_back(begin, out.text.size());
  }
  if (options.add_generation_prompt) out.text += "<start_of_turn>model\n";
  return out;
}

}  // namespace bezel::data
