#include "bezel/data/sample_text.h"

#include <string_view>

#include "bezel/data/sample_media.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::string_view kBos = "<bos>";
constexpr std::string_view kEos = "<eos>";

bool is_model(const Json& message) {
  const auto role = message.find("role");
  return role != message.end() && (*role == "assistant" || *role == "model");
}

SampleText read_chat(const JsonView& line, const Json& messages, const SampleOptions& options) {
  const auto tools = line.find("tools");
  RenderedChat chat =
      render_chat(JsonView(messages, line.source(), "messages"), tools ? &tools->value() : nullptr, options.chat);
  bool answered = false;
  for (const Json& message : messages) answered = answered || is_model(message);
  if (!answered && !options.train_on_inputs)
    throw Error(line.source(), ": no assistant turn, so there is nothing to learn");
  SampleText sample{std::move(chat.text), std::move(chat.loss_spans), {}, {}};
  collect_media(line, &messages, sample);
  return sample;
}

Json as_messages(const JsonView& value, const char* role) {
  if (value.is_array()) return value.value();
  return Json::array({{{"role", role}, {"content", value.text()}}});
}

SampleText read_prompt(const JsonView& line, const SampleOptions& options) {
  const JsonView prompt = line.at("prompt");
  const JsonView completion = line.at("completion");
  if (prompt.is_array() || completion.is_array()) {
    Json messages = as_messages(prompt, "user");
    for (Json& message : messages)
      if (message.is_object()) message["train"] = false;
    for (const Json& message : as_messages(completion, "assistant")) messages.push_back(message);
    return read_chat(line, messages, options);
  }
  SampleText sample;
  sample.text = std::string(kBos) + prompt.text();
  const std::size_t begin = sample.text.size();
  sample.text.append(completion.text()).append(kEos);
  sample.loss_spans.emplace_back(begin, sample.text.size());
  collect_media(line, nullptr, sample);
  return sample;
}

SampleText read_instruction(const JsonView& line, const SampleOptions& options) {
  Json messages = Json::array();
  if (const auto system = line.find("system"); system && !system->text().empty())
    messages.push_back({{"role", "system"}, {"content", system->text()}});
  std::string request = line.at("instruction").text();
  if (const auto input = line.find("input"); input && !input->text().empty()) request += "\n\n" + input->text();
  messages.push_back({{"role", "user"}, {"content", request}});
  messages.push_back({{"role", "assistant"}, {"content", line.at("output").text()}});
  return read_chat(line, messages, options);
}

SampleText read_text(const JsonView& line) {
  std::string text = line.at("text").text();
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
  if (const auto messages = line.find("messages")) return read_chat(line, messages->value(), options);
  if (const auto turns = line.find("conversations")) return read_chat(line, messages_of_conversations(*turns), options);
  if (line.find("prompt") && line.find("completion")) return read_prompt(line, options);
  if (line.find("instruction") && line.find("output")) return read_instruction(line, options);
  if (line.find("text")) return read_text(line);
  std::string keys;
  for (const auto& [name, value] : line.members()) keys += (keys.empty() ? "" : ", ") + name;
  throw Error(line.source(), ": keys {", keys.substr(0, 200),
              "} make no known form; expected messages, conversations, ",
              "prompt + completion, instruction + output, or text");
}

}  // namespace

SampleText read_sample(const Json& line, const std::string& source, const SampleOptions& options) {
  SampleText sample = read_form(JsonView(line, source), options);
  if (options.train_on_inputs) sample.loss_spans = {{kBos.size(), sample.text.size()}};
  if (sample.loss_spans.empty())
    throw Error(source, ": every turn is taken out of the loss, so there is nothing to learn");
  return sample;
}

}  // namespace bezel::data
