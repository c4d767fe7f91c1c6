#include "bezel/data/sample_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bezel/data/chat_messages.h"
#include "bezel/data/conversations.h"
#include "bezel/data/message_media.h"
#include "bezel/data/sample_columns.h"
#include "bezel/data/sample_keys.h"
#include "bezel/data/sample_media.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;
using Span = std::pair<std::size_t, std::size_t>;

constexpr std::string_view kBos = "<bos>";
constexpr std::string_view kEos = "<eos>";

// Everything behind <bos>, without the messages that are left out.
std::vector<Span> all_but(const std::vector<Span>& left_out, std::string_view text) {
  std::vector<Span> spans;
  const std::size_t end = text.size();
  std::size_t begin = text.starts_with(kBos) ? kBos.size() : 0;
  for (const auto& [out_begin, out_end] : left_out) {
    if (out_begin > begin) spans.emplace_back(begin, out_begin);
    begin = std::max(begin, out_end);
  }
  if (end > begin) spans.emplace_back(begin, end);
  return spans;
}

// The key `tools`: a list, or a text that holds one as JSON, as LLaMA-Factory has it.
Json read_tools(const JsonView& line) {
  const auto tools = line.find("tools");
  if (!tools || (tools->is_string() && tools->text().empty())) return nullptr;
  Json list =
      tools->is_string() ? io::parse_json(tools->text(), line.source() + ": key 'tools'") : Json(tools->value());
  if (tools->is_string() && !list.is_array()) tools->fail("a list of tools, or a text that holds one as JSON");
  rename_input_schema(list, line.source());
  check_tool_keys(JsonView(list, line.source(), "tools"));
  return list;
}

// The options of the template that a line sets for itself.
ChatOptions line_options(const JsonView& line, ChatOptions options) {
  const auto given = line.find("chat_template_kwargs");
  if (!given) return options;
  for (const auto& [name, value] : given->members()) {
    if (value.is_null()) continue;
    if (options.checkpoint_template != nullptr && name != "add_generation_prompt")
      options.template_kwargs[name] = value.value();
    else if (name == "enable_thinking")
      options.enable_thinking = value.boolean();
    else if (name != "add_generation_prompt" || value.boolean())
      throw Error(line.source(), ": key '", value.key(),
                  "' is not supported; of the template's arguments enable_thinking alone is read");
  }
  return options;
}

SampleText read_chat(const JsonView& line, Json messages, const SampleOptions& options) {
  place_message_media(messages, line.source());
  input::PerKind<bool> listed;
  for (const input::MediaKind kind : input::kMediaKinds) listed[kind] = has_media(line, kind);
  split_tags(messages, listed);
  check_message_keys(JsonView(messages, line.source(), "messages"));
  mark_listed_media(line, messages);
  const Json tools = read_tools(line);
  const ChatOptions chat_options = line_options(line, options.chat);
  const auto render = [&](const Json& list) {
    return render_chat(JsonView(list, line.source(), "messages"), &tools, chat_options);
  };
  RenderedChat chat = render(messages);
  bool answered = false;
  for (const Json& message : messages) answered = answered || is_model(message);
  if (!answered && !options.train_on_inputs)
    throw Error(line.source(), ": no assistant turn, so there is nothing to learn");
  if (!chat.no_spans.empty() && !options.train_on_inputs)
    throw Error(line.source(), ": ", chat.no_spans,
                "; train_on_inputs: true learns all of the text, chat_template: FILE ", "takes another template");
  SampleText sample;
  sample.text = std::move(chat.text);
  sample.turn_header = std::move(chat.header);
  sample.prompt_tail = std::move(chat.prompt_tail);
  if (options.takes_notes)
    sample.notes = note_messages(JsonView(messages, line.source(), "messages"), sample.text,
                                 [&](const Json& list) { return render(list).text; });
  sample.answers = std::move(chat.loss_spans);
  sample.loss_spans = options.train_on_inputs ? all_but(chat.left_out, sample.text) : sample.answers;
  collect_media(line, &messages, sample);
  return sample;
}

Json as_messages(const JsonView& value, const char* role) {
  if (value.is_array()) return value.value();
  return Json::array({{{"role", role}, {"content", value.text()}}});
}

void mask_from_loss(Json& message) {
  for (const std::string_view key : kLossKeys) message.erase(std::string(key));
  message["train"] = false;
}

// A text that is no chat, its <image>, <audio> and <video> tags as placeholders where the line has such media.
std::string with_placeholders(const JsonView& line, std::string text) {
  for (const input::MediaKind kind : input::kMediaKinds) {
    const std::string_view tag = input::kMediaWords[kind].tag, placeholder = input::kMediaWords[kind].placeholder;
    if (!has_media(line, kind)) continue;
    for (auto at = text.find(tag); at != std::string::npos; at = text.find(tag, at + placeholder.size()))
      text.replace(at, tag.size(), placeholder);
  }
  return text;
}

// For a file that is an object around its list of samples.
std::string advice_on_lists(const JsonView& line) {
  for (const auto& [name, value] : line.members())
    if (value.is_array() && !value.value().empty() && value.value()[0].is_object())
      return "; '" + name + "' holds a list of objects: if they are the samples, write them alone into a file: jq '." +
             name + "'";
  return "";
}

SampleText read_prompt(const JsonView& line, const SampleOptions& options) {
  const JsonView prompt = line.at("prompt");
  const JsonView completion = line.at("completion");
  if (prompt.is_array() || completion.is_array()) {
    Json messages = as_messages(prompt, "user");
    if (!options.train_on_inputs)
      for (Json& message : messages)
        if (message.is_object()) mask_from_loss(message);
    for (const Json& message : as_messages(completion, "assistant")) messages.push_back(message);
    check_line_keys(line, SampleForm::kChatPrompt);
    add_system(line, messages);
    return read_chat(line, messages, options);
  }
  check_line_keys(line, SampleForm::kPrompt);
  SampleText sample;
  sample.text = with_placeholders(line, prompt.text());
  if (!sample.text.starts_with(kBos)) sample.text.insert(0, kBos);
  const std::size_t begin = sample.text.size();
  sample.notes.empty_answers = trimmed(completion.text()).empty();
  sample.text += completion.text();
  if (!sample.text.ends_with(kEos)) sample.text += kEos;
  sample.answers.emplace_back(begin, sample.text.size());
  sample.loss_spans.emplace_back(options.train_on_inputs ? kBos.size() : begin, sample.text.size());
  collect_media(line, nullptr, sample);
  return sample;
}

SampleText read_text(const JsonView& line) {
  check_line_keys(line, SampleForm::kText);
  const std::string text = with_placeholders(line, line.at("text").text());
  SampleText sample;
  if (text.compare(0, kBos.size(), kBos) != 0) sample.text = kBos;
  sample.text += text;
  if (sample.text.size() < kEos.size() || sample.text.compare(sample.text.size() - kEos.size(), kEos.size(), kEos) != 0)
    sample.text += kEos;
  sample.loss_spans.emplace_back(kBos.size(), sample.text.size());
  collect_media(line, nullptr, sample);
  return sample;
}

SampleText read_form(const JsonView& line, const SampleOptions& options) {
  if (!line.is_object()) line.fail("an object");
  if (const auto given = line.find("messages")) {
    check_line_keys(line, SampleForm::kMessages);
    Json messages = given->value();
    add_system(line, messages);
    return read_chat(line, std::move(messages), options);
  }
  if (const auto turns = line.find("conversations")) {
    check_line_keys(line, SampleForm::kConversations);
    check_turn_keys(*turns);
    return read_chat(line, messages_of_conversations(line), options);
  }
  if (line.find("prompt") && line.find("completion")) return read_prompt(line, options);
  if (line.find("instruction") && line.find("output")) {
    check_line_keys(line, SampleForm::kInstruction);
    return read_chat(line, messages_of_instruction(line), options);
  }
  if (line.find("text")) return read_text(line);
  std::string keys;
  for (const auto& [name, value] : line.members()) keys += (keys.empty() ? "" : ", ") + name;
  throw Error(line.source(), ": keys {", keys.substr(0, 200),
              "} make no known form; expected messages, conversations, ",
              "prompt + completion, instruction + output, or text", advice_on_keys(line), advice_on_lists(line));
}

}  // namespace

SampleText read_sample(const Json& line, const std::string& source, const SampleOptions& options) {
  const KnownColumns known = with_known_columns(JsonView(line, source));
  SampleText sample = read_form(JsonView(known.line, source), options);
  sample.notes.added_requests = known.adds_request;
  if (sample.loss_spans.empty())
    throw Error(source, ": every turn is taken out of the loss, so there is nothing to learn");
  return sample;
}

}  // namespace bezel::data
