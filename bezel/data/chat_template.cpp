#include "bezel/data/chat_template.h"

#include <iterator>
#include <optional>
#include <string_view>

#include "bezel/data/chat_gemma3.h"
#include "bezel/data/chat_messages.h"
#include "bezel/data/chat_tools.h"
#include "bezel/data/template_chat.h"
#include "bezel/error.h"
#include "bezel/input/media_kind.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::string_view kOpenThought = "<|channel>";
constexpr std::string_view kCloseThought = "<channel|>";

// "text, image, audio or video"
std::string part_types() {
  std::string out = "text";
  for (const input::MediaKind kind : input::kMediaKinds) {
    out += kind == *std::prev(std::end(input::kMediaKinds)) ? " or " : ", ";
    out += input::kMediaWords[kind].part;
  }
  return out;
}

std::string render_part(const ChatMessage& message, const JsonView& part) {
  const auto type = part.is_object() ? part.find("type") : std::nullopt;
  if (!type || !type->is_string()) message.fail("a part of the content has no type");
  if (type->text() == "text") {
    const auto text = part.find("text");
    if (!text || !text->is_string()) message.fail("a text part has no string 'text'");
    return message.role == Role::kModel ? without_thoughts(text->text()) : trimmed(text->text());
  }
  const auto kind = input::kind_of_part(type->text());
  if (!kind) message.fail("a part has the type '" + type->text() + "'; expected " + part_types());
  if (message.role == Role::kSystem || message.role == Role::kTool)
    message.fail("a part has the type '" + type->text() + "', but media belong into user turns");
  return std::string(input::kMediaWords[*kind].placeholder);
}

std::string render_content(const ChatMessage& message) {
  const auto content = message.json.find("content");
  if (!content) {
    if (message.role == Role::kModel && (message.json.find("tool_calls") || message.json.find("tool_responses")))
      return "";
    message.fail("it has no content");
  }
  if (content->is_string())
    return message.role == Role::kModel ? without_thoughts(content->text()) : trimmed(content->text());
  if (!content->is_array()) message.fail("its content is neither a string nor a list of parts");
  std::string out;
  for (const JsonView& part : content->elements()) {
    out += render_part(message, part);
    // The template of a leading system message puts a blank behind each part.
    if (message.role == Role::kSystem && message.idx == 0) out += ' ';
  }
  return out;
}

// The parts of a tool's answer, untrimmed, as in the template.
std::string tool_text(const ChatMessage& message) {
  render_content(message);  // refuses what is not text
  std::string out;
  for (const JsonView& part : message.json.at("content").elements()) out += part.at("text").text();
  return out;
}

class Renderer {
 public:
  Renderer(const JsonView& messages, const Json* tools, const ChatOptions& options)
      : messages_(read_chat_messages(messages)), source_(messages.source()), tools_(tools), options_(options) {
    for (const ChatMessage& message : messages_)
      if (message.role == Role::kUser) last_user_ = message.idx;
  }

  RenderedChat run() {
    out_.text = "<bos>";
    const std::size_t first = render_system();
    for (std::size_t i = first; i < messages_.size(); ++i) render(messages_[i]);
    if (options_.add_generation_prompt && !inside_tool_use_)
      out_.text.append("<|turn>model\n").append(generation_tail(options_.format, options_.enable_thinking));
    if (options_.mask_history)
      std::erase_if(out_.loss_spans, [&](const auto& s) { return s.first < last_turn_begin_; });
    return std::move(out_);
  }

 private:
  // Returns the index of the first message that is not part of the opening system turn.
  std::size_t render_system() {
    const bool has_system = !messages_.empty() && messages_[0].role == Role::kSystem;
    const bool has_tools = tools_ != nullptr && !tools_->is_null() && !tools_->empty();
    if (!has_system && !has_tools && !options_.enable_thinking) return 0;
    const std::size_t begin = out_.text.size();
    out_.text += "<|turn>system\n";
    if (options_.enable_thinking) out_.text += "<|think|>\n";
    if (has_system) out_.text += render_content(messages_[0]);
    if (has_tools)
      for (const JsonView& tool : JsonView(*tools_, source_, "tools").elements())
        out_.text += render_tool_declaration(tool);
    out_.text += "<turn|>\n";
    if (has_system && !messages_[0].is_trained()) out_.left_out.emplace_back(begin, out_.text.size());
    return has_system ? 1 : 0;
  }

  void render(const ChatMessage& message) {
    if (message.role == Role::kTool) return check_tool(message);
    const std::size_t begin = out_.text.size();
    render_turn(message);
    if (!message.is_trained()) out_.left_out.emplace_back(begin, out_.text.size());
  }

  void render_turn(const ChatMessage& message) {
    const bool goes_on = message.role == Role::kModel && previous_ == Role::kModel;
    if (!goes_on) {
      constexpr std::string_view kNames[] = {"system", "user", "model"};
      out_.text.append("<|turn>").append(kNames[static_cast<int>(message.role)]).append("\n");
      inside_tool_use_ = false;
    }
    if (message.role == Role::kModel && !goes_on) last_turn_begin_ = out_.text.size();
    previous_ = message.role;
    if (message.role == Role::kModel) return render_model(message);
    out_.text.append(render_content(message)).append("<turn|>\n");
  }

  // The answers themselves are rendered with the call before them.
  void check_tool(const ChatMessage& message) const {
    std::size_t i = message.idx;
    while (i > 0 && messages_[i].role == Role::kTool) --i;
    if (messages_[i].role != Role::kModel || !messages_[i].json.find("tool_calls"))
      message.fail("a tool message must follow an assistant message with tool_calls");
  }

  void render_model(const ChatMessage& message) {
    const bool in_loss = message.is_trained();
    std::size_t begin = out_.text.size();
    const auto calls = message.json.find("tool_calls");
    const bool has_calls = calls && !calls->elements().empty();
    if (has_calls) {
      render_reasoning(message);
      for (const JsonView& call : calls->elements()) out_.text += render_tool_call(call);
    }
    bool answered = false;
    const std::size_t calls_end = out_.text.size();
    if (message.json.find("tool_responses"))
      answered = render_own_responses(message);
    else if (has_calls)
      answered = render_responses(message, *calls);
    inside_tool_use_ = has_calls || answered;
    if (inside_tool_use_) {
      add_span(begin, calls_end, in_loss);
      begin = out_.text.size();
    }
    const std::string content = render_content(message);
    out_.text += content;
    if (has_calls && !answered) {
      add_span(begin, out_.text.size(), in_loss);
      out_.text += "<|tool_response>";
    } else if (!answered || !content.empty()) {
      out_.text += "<turn|>";
      add_span(begin, out_.text.size(), in_loss);
      out_.text += "\n";
    }
  }

  void render_reasoning(const ChatMessage& message) {
    if (last_user_ && message.idx < *last_user_) return;
    for (const char* name : {"reasoning", "reasoning_content"}) {
      const auto reasoning = message.json.find(name);
      if (!reasoning || reasoning->text().empty()) continue;
      out_.text.append(kOpenThought).append("thought\n").append(reasoning->text()).append("\n").append(kCloseThought);
      return;
    }
  }

  // Renders the answers that the message holds itself; false when its list is empty.
  bool render_own_responses(const ChatMessage& message) {
    const auto responses = message.json.at("tool_responses").elements();
    const std::size_t next = message.idx + 1;
    if (!responses.empty() && next < messages_.size() && messages_[next].role == Role::kTool)
      messages_[next].fail("a tool message follows a message that has tool_responses; write one of them");
    for (const JsonView& response : responses) {
      const auto name = response.find("name");
      out_.text += render_tool_response(name ? name->text() : "unknown", response.at("response").value());
    }
    return !responses.empty();
  }

  // Renders the tool messages that follow `message`; false when there is none.
  bool render_responses(const ChatMessage& message, const JsonView& calls) {
    std::size_t i = message.idx + 1;
    for (; i < messages_.size() && messages_[i].role == Role::kTool; ++i) {
      const auto content = messages_[i].json.find("content");
      if (!content && !messages_[i].json.value().contains("content")) messages_[i].fail("it has no content");
      const Json body = !content              ? Json(nullptr)
                        : content->is_array() ? Json(tool_text(messages_[i]))
                                              : content->value();
      out_.text += render_tool_response(tool_name(messages_[i], calls), body);
    }
    return i > message.idx + 1;
  }

  std::string tool_name(const ChatMessage& message, const JsonView& calls) const {
    if (const auto wanted = message.json.find("tool_call_id"))
      for (const JsonView& call : calls.elements())
        if (const auto id = call.find("id"); id && id->value() == wanted->value())
          return call.find("function").value_or(call).at("name").text();
    if (const auto name = message.json.find("name")) return name->text();
    // The template compares a missing id with a missing id, and the last call that is equal names the answer.
    std::string name = "unknown";
    for (const JsonView& call : calls.elements())
      if (!call.find("id") && !message.json.find("tool_call_id"))
        name = call.find("function").value_or(call).at("name").text();
    return name;
  }

  void add_span(std::size_t begin, std::size_t end, bool in_loss) {
    if (in_loss && end > begin) out_.loss_spans.emplace_back(begin, end);
  }

  std::vector<ChatMessage> messages_;
  std::string source_;
  const Json* tools_;
  ChatOptions options_;
  RenderedChat out_;
  std::optional<Role> previous_;          // of the last message that was no tool message
  std::optional<std::size_t> last_user_;  // index of the last user message
  std::size_t last_turn_begin_ = 0;       // where the text of the last model turn begins
  bool inside_tool_use_ = false;          // the text ends in a call or its answers, so the model turn is still open
};

}  // namespace

ChatFormat detect_chat_format(const gemma4::ModelConfig& model) {
  if (model.family == gemma4::Family::kGemma3) return ChatFormat::kGemma3;
  return model.text.hidden_size_per_layer_input > 0 ? ChatFormat::kEdge : ChatFormat::kLarge;
}

ChatTokens chat_tokens(ChatFormat format) {
  if (format == ChatFormat::kGemma3) return {"<start_of_turn>", "<end_of_turn>"};
  return {"<|turn>", "<turn|>"};
}

std::string_view generation_tail(ChatFormat format, bool enable_thinking) {
  return format == ChatFormat::kLarge && !enable_thinking ? "<|channel>thought\n<channel|>" : "";
}

std::string without_thoughts(std::string_view text) {
  std::string out;
  while (true) {
    const auto close = text.find(kCloseThought);
    const std::string_view part = text.substr(0, close);
    out.append(part.substr(0, part.find(kOpenThought)));
    if (close == std::string_view::npos) return trimmed(out);
    text.remove_prefix(close + kCloseThought.size());
  }
}

RenderedChat render_chat(const JsonView& messages, const Json* tools, const ChatOptions& options) {
  if (options.checkpoint_template != nullptr) return render_template_chat(messages, tools, options);
  if (options.format == ChatFormat::kGemma3) return render_gemma3_chat(messages, tools, options);
  return Renderer(messages, tools, options).run();
}

}  // namespace bezel::data
