#include "bezel/data/preference.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "bezel/data/conversations.h"
#include "bezel/data/sample_media.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using input::AnswerRole;
using io::Json;
using io::JsonView;

/// A line as `prompt` + `completion` of both answers.
struct Pair {
  Json chosen, rejected;
};

bool has(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && !found->is_null();
}

// Other names of the same columns.
void rename_known(Json& line) {
  constexpr std::array<std::array<const char*, 2>, 4> kNames = {
      {{"chosen_response", "chosen"}, {"rejected_response", "rejected"}, {"kto_tag", "label"}, {"question", "prompt"}}};
  for (const auto& [from, to] : kNames) {
    if (!has(line, from) || has(line, to) || (to == std::string_view("prompt") && has(line, "instruction"))) continue;
    line[to] = line[from];
    line.erase(from);
  }
}

// Scores and sources of single answers (score_chosen, rejected-model …), which change nothing that is learned.
bool is_note(std::string_view name) {
  constexpr std::string_view kWords[] = {"score", "scores", "rating", "ratings",   "avg_rating", "model", "models",
                                         "name",  "reward", "id",     "generator", "source",     "rank",  "critique"};
  const auto is_word = [&](std::string_view word, char mark) {
    return (mark == '_' || mark == '-') && std::ranges::find(kWords, word) != std::end(kWords);
  };
  for (const std::string_view side : {"chosen", "rejected"}) {
    if (name.size() <= side.size() + 1) continue;
    const std::size_t length = name.size() - side.size() - 1;
    if (name.starts_with(side) && is_word(name.substr(side.size() + 1), name[side.size()])) return true;
    if (name.ends_with(side) && is_word(name.substr(0, length), name[length])) return true;
  }
  return name == "margin";
}

void drop_notes(Json& line) {
  std::vector<std::string> notes;
  for (const auto& [name, value] : line.items())
    if (is_note(name)) notes.push_back(name);
  for (const std::string& name : notes) line.erase(name);
  if (has(line, "messages") && line["messages"] == line["chosen"]) line.erase("messages");
}

bool is_turn(const Json& value) { return value.is_object() && (value.contains("role") || value.contains("from")); }

// A turn as ShareGPT writes it.
bool is_sharegpt(const Json& turn) {
  if (!turn.is_object()) return false;
  const auto role = turn.find("role");
  if (role == turn.end() || !role->is_string()) return turn.contains("from");
  constexpr std::string_view kRoles[] = {"human", "gpt", "bot", "function_call", "observation"};
  return std::ranges::find(kRoles, role->get_ref<const std::string&>()) != std::end(kRoles);
}

// One message or several, of ShareGPT too, as a list of messages; a string stays one.
Json answer_of(const Json& value, const std::string& source, const char* key) {
  Json list = is_turn(value) ? Json::array({value}) : value;
  if (list.is_string()) return list;
  if (!list.is_array() || list.empty())
    throw Error(source, ": key '", key, "': expected a string, a message or a list of messages");
  if (std::ranges::none_of(list, is_sharegpt)) return list;
  const Json turns = {{"conversations", std::move(list)}};
  return messages_of_conversations(JsonView(turns, source));
}

bool asks(const Json& message) {
  const auto role = message.is_object() ? message.find("role") : message.end();
  return message.is_object() && role != message.end() && (*role == "user" || *role == "system" || *role == "developer");
}

// A chat with its prompt, not an answer alone.
bool is_whole_chat(const Json& answer) { return answer.is_array() && !answer.empty() && asks(answer[0]); }

// What both chats, or both texts, begin with. As TRL's extract_prompt, the blank before an answer is the answer's.
std::size_t common_length(const Json& one, const Json& other) {
  if (one.is_array()) {
    std::size_t count = 0;
    while (count < std::min(one.size(), other.size()) && one[count] == other[count]) ++count;
    return count;
  }
  const auto &text = one.get_ref<const std::string&>(), &rest = other.get_ref<const std::string&>();
  std::size_t count = 0;
  while (count < std::min(text.size(), rest.size()) && text[count] == rest[count]) ++count;
  // No half character.
  while (count > 0 && count < text.size() && (static_cast<unsigned char>(text[count]) & 0xC0) == 0x80) --count;
  return count > 0 && text[count - 1] == ' ' ? count - 1 : count;
}

Json part_of(const Json& whole, std::size_t begin, std::size_t end) {
  if (whole.is_string()) return Json(whole.get<std::string>().substr(begin, end - begin));
  return Json(Json::array_t(whole.begin() + static_cast<std::ptrdiff_t>(begin),
                            whole.begin() + static_cast<std::ptrdiff_t>(end)));
}

// `prompt` beside whole chats repeats what they ask, as UltraFeedback has it.
void check_repeated_prompt(const Json& line, const Json& prompt, const std::string& source) {
  if (!has(line, "prompt") || line["prompt"] == prompt) return;
  const bool is_there = std::ranges::any_of(
      prompt, [&](const Json& message) { return message.contains("content") && message["content"] == line["prompt"]; });
  if (!is_there)
    throw Error(source, ": key 'prompt' says something else than 'chosen', which is a whole chat; write the answers ",
                "alone as 'chosen' and 'rejected'");
}

// The prompt of a line in whatever form it has one; erases its columns.
std::optional<Json> take_prompt(Json& line, const std::string& source) {
  const auto take = [&](std::initializer_list<const char*> keys, Json prompt) {
    for (const char* key : keys) line.erase(key);
    return prompt;
  };
  if (has(line, "prompt")) return take({"prompt"}, line["prompt"]);
  if (has(line, "messages")) return take({"messages"}, line["messages"]);
  if (has(line, "conversations")) {
    Json turns = {{"conversations", line["conversations"]}};
    return take({"conversations"}, messages_of_conversations(JsonView(turns, source)));
  }
  if (!has(line, "instruction")) return std::nullopt;
  Json asked = line;
  asked["output"] = "";
  asked.erase("system");  // read_sample puts it in front
  Json messages = messages_of_instruction(JsonView(asked, source));
  messages.erase(messages.size() - 1);
  return take({"instruction", "input", "history", "text"}, std::move(messages));
}

Json with_answer(const Json& rest, const Json& prompt, const Json& answer) {
  Json line = rest;
  line["prompt"] = prompt;
  line["completion"] = answer;
  return line;
}

Pair split_pair(Json line, const std::string& source) {
  const Json chosen = answer_of(line["chosen"], source, "chosen"),
             rejected = answer_of(line["rejected"], source, "rejected");
  if (chosen == rejected) throw Error(source, ": 'chosen' and 'rejected' are the same, so there is nothing to prefer");
  const bool are_whole = is_whole_chat(chosen) && is_whole_chat(rejected);
  line.erase("chosen");
  line.erase("rejected");
  if (is_whole_chat(chosen) != is_whole_chat(rejected) || chosen.is_string() != rejected.is_string())
    throw Error(source, ": 'chosen' and 'rejected' are of different forms");
  std::optional<Json> prompt;
  if (!are_whole) prompt = take_prompt(line, source);
  if (prompt) return {with_answer(line, *prompt, chosen), with_answer(line, *prompt, rejected)};
  const std::size_t length = common_length(chosen, rejected);
  const auto size = [](const Json& value) {
    return value.is_string() ? value.get_ref<const std::string&>().size() : value.size();
  };
  if (length == 0 || length == size(chosen) || length == size(rejected))
    throw Error(source, ": 'chosen' and 'rejected' are no answers to one prompt: they ",
                length == 0 ? "begin otherwise" : "are the begin of one another", "; write the prompt as 'prompt'");
  Json shared = part_of(chosen, 0, length);
  if (are_whole) check_repeated_prompt(line, shared, source);
  line.erase("prompt");
  return {with_answer(line, shared, part_of(chosen, length, size(chosen))),
          with_answer(line, shared, part_of(rejected, length, size(rejected)))};
}

// The last message of a chat is the answer that `label` is about.
Json split_last(Json line, const std::string& source) {
  if (has(line, "completion")) return line;
  if (has(line, "instruction") && has(line, "output")) {
    const Json answer = line["output"];
    line.erase("output");
    const Json prompt = *take_prompt(line, source);
    return with_answer(line, prompt, answer);
  }
  if (has(line, "messages") && has(line, "prompt")) line.erase("prompt");
  const auto chat = take_prompt(line, source);
  if (!chat || !chat->is_array() || chat->size() < 2 || asks(chat->back()))
    throw Error(source,
                ": 'label' is about an answer; expected prompt + completion, a chat that ends with the model's ",
                "message, or instruction + output");
  return with_answer(line, part_of(*chat, 0, chat->size() - 1), part_of(*chat, chat->size() - 1, chat->size()));
}

AnswerRole take_label(Json& line, const std::string& source) {
  const Json label = line["label"];
  line.erase("label");
  if (label == true || label == 1) return AnswerRole::kDesirable;
  if (label == false || label == 0) return AnswerRole::kUndesirable;
  throw Error(source, ": key 'label': expected true for a good answer or false for a bad one");
}

// An image that only one answer shows would have to be compared with nothing.
void check_media(const SampleText& text, const std::string& source) {
  if (!text.loss_spans.empty() && next_placeholder(text.text, text.loss_spans.front().first))
    throw Error(source, ": an answer shows media; they belong into the prompt");
}

AnswerText read_answer(const Json& line, const std::string& source, AnswerRole role, bool learns_prompt,
                       const SampleOptions& options) {
  AnswerText answer{.text = read_sample(line, source, options), .role = role};
  check_media(answer.text, source);
  if (!learns_prompt) return answer;
  SampleOptions all = options;
  all.train_on_inputs = true;
  answer.prompt_spans = read_sample(line, source, all).loss_spans;
  return answer;
}

void check_kind(const Json& line, const std::string& source, LineKind kind, bool is_pair) {
  if (kind == LineKind::kPair && !is_pair)
    throw Error(source, ": has no 'chosen' and 'rejected', which the config's objective compares",
                has(line, "label") ? "; objective: kto learns from answers with a 'label'"
                                   : "; objective: sft learns from samples with one answer");
  if (kind == LineKind::kLabelled && !is_pair && !has(line, "label"))
    throw Error(source, ": has no 'label' (true or false) and no 'chosen' and 'rejected', from which the config's ",
                "objective: kto learns; objective: sft learns from samples without them");
}

}  // namespace

std::vector<AnswerText> read_answers(const Json& given, const std::string& source, LineKind kind, bool learns_prompt,
                                     const SampleOptions& options) {
  if (kind == LineKind::kSample || !given.is_object()) {
    std::vector<AnswerText> only;
    only.push_back({.text = read_sample(given, source, options)});
    return only;
  }
  Json line = given;
  rename_known(line);
  const bool is_pair = has(line, "chosen") && has(line, "rejected");
  check_kind(line, source, kind, is_pair);
  if (!is_pair) {
    const AnswerRole role = take_label(line, source);
    return {read_answer(split_last(std::move(line), source), source, role, false, options)};
  }
  drop_notes(line);
  const Pair pair = split_pair(std::move(line), source);
  const bool is_labelled = kind == LineKind::kLabelled;
  std::vector<AnswerText> answers;
  answers.push_back(read_answer(pair.chosen, source, is_labelled ? AnswerRole::kDesirable : AnswerRole::kChosen,
                                learns_prompt, options));
  answers.push_back(read_answer(pair.rejected, source, is_labelled ? AnswerRole::kUndesirable : AnswerRole::kRejected,
                                false, options));
  return answers;
}

}  // namespace bezel::data
