#include "bezel/data/template_chat.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "bezel/data/chat_messages.h"
#include "bezel/data/checkpoint_template.h"
#include "bezel/data/template_messages.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;
using jinja::Origin;
using jinja::TracedText;
using Span = std::pair<std::size_t, std::size_t>;

// Opens a tool's answer in Gemma 4's templates, also where it follows no call.
constexpr std::string_view kOpenResponse = "<|tool_response>";

bool is_blank(std::string_view text) { return trimmed(text).empty(); }

// The text of a message that a template must show: thoughts may be left out.
std::string visible_text(const ChatMessage& message) {
  const auto content = message.json.find("content");
  std::string text;
  if (content && content->is_string()) text = content->text();
  if (content && content->is_array())
    for (const JsonView& part : content->elements())
      if (part.is_object() && part.find("text") && part.at("text").is_string()) text += part.at("text").text();
  if (message.role != Role::kModel) return text;
  text = without_thoughts(text);
  const auto thought_end = text.rfind("</think>");
  return thought_end == std::string::npos ? text : text.substr(thought_end + 8);
}

class SpanFinder {
 public:
  SpanFinder(const std::vector<ChatMessage>& messages, const TracedText& text, const TurnMarks& marks)
      : messages_(messages), text_(text), marks_(marks), pieces_(messages.size()) {
    std::size_t begin = 0;
    for (const auto& run : text.runs()) {
      add_piece({begin, run.end}, run.origin);
      begin = run.end;
    }
  }

  // The model's turns without header and without the white space behind what ends them.
  std::vector<Span> turns() const {
    std::vector<Span> spans;
    for (const ChatMessage& message : messages_)
      if (message.role == Role::kModel && message.is_trained()) add_turn(message.idx, spans);
    std::sort(spans.begin(), spans.end());
    return spans;
  }

  // What is inside {% generation %}, but for messages that are not learnt.
  std::vector<Span> generated() const {
    std::vector<Span> spans;
    std::size_t begin = 0;
    for (const auto& run : text_.runs()) {
      const auto message = run.origin.message;
      const bool trained = message < 0 || messages_[static_cast<std::size_t>(message)].is_trained();
      if (run.origin.generation && trained) append({begin, run.end}, spans);
      begin = run.end;
    }
    return spans;
  }

  // Everything of the messages with "train": false; of a leading system message everything before the next message.
  std::vector<Span> left_out() const {
    std::vector<Span> spans;
    for (const ChatMessage& message : messages_) {
      if (message.is_trained()) continue;
      const auto& pieces = pieces_[message.idx];
      if (pieces.empty()) continue;
      Span whole{pieces.front().first, pieces.back().second};
      if (message.idx == 0 && message.role == Role::kSystem && messages_.size() > 1 && !pieces_[1].empty() &&
          pieces_[1].front().first >= whole.second)
        whole = {0, pieces_[1].front().first};
      spans.push_back(whole);
    }
    std::sort(spans.begin(), spans.end());
    return spans;
  }

  // Where the last turn of the model begins: at its first message, which others and tools' answers may follow.
  std::size_t last_turn_begin() const {
    std::size_t begin = 0;
    bool inside = false;
    for (const ChatMessage& message : messages_) {
      if (message.role == Role::kTool) continue;
      const bool is_model = message.role == Role::kModel;
      if (is_model && !inside && !pieces_[message.idx].empty()) begin = pieces_[message.idx].front().first;
      inside = is_model;
    }
    return begin;
  }

  void check_nothing_is_lost() const {
    std::vector<bool> shown(messages_.size());
    for (const auto& run : text_.runs())
      if (run.origin.own && run.origin.message >= 0) shown[static_cast<std::size_t>(run.origin.message)] = true;
    for (const ChatMessage& message : messages_) {
      if (!shown[message.idx] && !is_blank(visible_text(message)))
        message.fail("the chat template leaves its content out");
      const auto calls = message.json.find("tool_calls");
      if (!calls) continue;
      for (const JsonView& call : calls->elements()) {
        const std::string name = call.find("function").value_or(call).at("name").text();
        if (text_.bytes().find(name) == std::string::npos) message.fail("the chat template leaves its tool calls out");
      }
    }
  }

 private:
  static void append(Span span, std::vector<Span>& spans) {
    if (!spans.empty() && spans.back().second == span.first) {
      spans.back().second = span.second;
    } else {
      spans.push_back(span);
    }
  }

  void add_piece(Span span, const Origin& origin) {
    if (origin.message < 0) return;
    const auto message = static_cast<std::size_t>(origin.message);
    const bool of_model = messages_[message].role == Role::kModel;
    if (!of_model || !origin.response) append(span, pieces_[message]);
  }

  void add_turn(std::size_t message, std::vector<Span>& spans) const {
    const auto& pieces = pieces_[message];
    const std::string_view text = text_.bytes();
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      auto [begin, end] = pieces[i];
      if (i == 0 && text.substr(begin, end - begin).starts_with(marks_.header)) begin += marks_.header.size();
      const auto by_template = [&] { return end > begin && !text_.origin_at(end - 1).own; };
      while (by_template() && is_blank(text.substr(end - 1, 1))) --end;
      if (by_template() && text.substr(begin, end - begin).ends_with(kOpenResponse)) end -= kOpenResponse.size();
      if (end > begin) spans.emplace_back(begin, end);
    }
  }

  const std::vector<ChatMessage>& messages_;
  const TracedText& text_;
  const TurnMarks& marks_;
  std::vector<std::vector<Span>> pieces_;  // of each message, in order
};

Json variables_of(const CheckpointTemplate& checkpoint, const ChatOptions& options) {
  Json variables = checkpoint.special_tokens();
  if (options.enable_thinking) variables["enable_thinking"] = true;
  if (options.template_kwargs.is_object())
    for (const auto& [name, value] : options.template_kwargs.items()) variables[name] = value;
  return variables;
}

void check_used(const CheckpointTemplate& checkpoint, const Json& variables, const std::string& source,
                bool with_tools) {
  for (const auto& [name, value] : variables.items())
    if (!checkpoint.special_tokens().contains(name) && !checkpoint.mentions(name, with_tools))
      throw Error(source, ": the chat template ", checkpoint.choose(with_tools).name(), " has no '", name,
                  "'; leave it out of chat_template_kwargs");
}

void check_tools(const Json& tools, const std::string& text, const std::string& source) {
  if (!tools.is_array()) return;
  for (const JsonView& tool : JsonView(tools, source, "tools").elements()) {
    const std::string name = tool.at("function").at("name").text();
    if (text.find(name) == std::string::npos)
      throw Error(source, ": key 'tools': the chat template leaves the tool '", name, "' out");
  }
}

}  // namespace

RenderedChat render_template_chat(const JsonView& list, const Json* given_tools, const ChatOptions& options) {
  const CheckpointTemplate& checkpoint = *options.checkpoint_template;
  const std::vector<ChatMessage> messages = read_chat_messages(list);
  Json tools = template_tools(given_tools);
  const bool with_tools = !tools.is_null();
  const Json variables = variables_of(checkpoint, options);
  check_used(checkpoint, variables, list.source(), with_tools);
  const Json all = template_variables(variables, template_messages(list), tools, options.add_generation_prompt);
  jinja::Context context;
  context.variables = &all;
  const jinja::Template& chat_template = checkpoint.choose(with_tools);
  TracedText text;
  try {
    text = chat_template.render(context);
  } catch (const Error& error) {
    throw Error(list.source(), ": ", error.what());
  }
  const TurnMarks& marks = checkpoint.marks(variables, with_tools);
  const SpanFinder spans(messages, text, marks);
  spans.check_nothing_is_lost();
  check_tools(tools, text.bytes(), list.source());
  RenderedChat out;
  out.text = text.bytes();
  out.header = marks.header;
  out.prompt_tail = marks.prompt_tail;
  out.left_out = spans.left_out();
  if (chat_template.has_generation()) {
    out.loss_spans = spans.generated();
  } else if (marks.problem.empty()) {
    out.loss_spans = spans.turns();
  } else {
    out.no_spans =
        "the chat template " + chat_template.name() + " does not show what an assistant turn is: " + marks.problem;
  }
  if (options.mask_history)
    std::erase_if(out.loss_spans, [last = spans.last_turn_begin()](const Span& span) { return span.first < last; });
  return out;
}

}  // namespace bezel::data
