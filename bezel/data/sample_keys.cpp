#include "bezel/data/sample_keys.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/chat_messages.h"
#include "bezel/error.h"
#include "bezel/input/media_kind.h"
#include "bezel/nearest.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;
using Names = std::vector<std::string_view>;

// Keys that say where a sample comes from or describe it, and change nothing that is learnt.
const Names& harmless_of_lines() {
  static const Names kNames = {"id",
                               "_id",
                               "idx",
                               "index",
                               "uuid",
                               "uid",
                               "sample_id",
                               "row_id",
                               "data_id",
                               "prompt_id",
                               "hash",
                               "md5",
                               "sha256",
                               "question_id",
                               "source",
                               "sources",
                               "data_source",
                               "origin",
                               "url",
                               "urls",
                               "dataset",
                               "split",
                               "subset",
                               "category",
                               "categories",
                               "topic",
                               "domain",
                               "task",
                               "task_type",
                               "task_name",
                               "tag",
                               "tags",
                               "score",
                               "scores",
                               "rating",
                               "quality",
                               "difficulty",
                               "metadata",
                               "meta",
                               "info",
                               "extra_info",
                               "language",
                               "lang",
                               "locale",
                               "license",
                               "author",
                               "version",
                               "created",
                               "created_at",
                               "updated_at",
                               "timestamp",
                               "date",
                               "model",
                               "model_name",
                               "generator",
                               "length",
                               "num_tokens",
                               "num_turns",
                               "duration",
                               "speaker",
                               "speaker_id",
                               "gender",
                               "accent",
                               "age",
                               "comment",
                               "notes",
                               "width",
                               "sampling_rate",
                               "sample_rate",
                               "height",
                               "__index_level_0__",
                               "dataset_name",
                               "conversation_id",
                               "client_id",
                               "up_votes",
                               "down_votes",
                               "accents",
                               "variant",
                               "segment",
                               "sentence_id",
                               "sentence_domain",
                               "chapter_id",
                               "num_samples",
                               "lang_id",
                               "lang_group_id",
                               "image_id",
                               "audio_id",
                               "video_id",
                               "video_metadata",
                               "duration_sec",
                               "image_size",
                               "image_width",
                               "image_height"};
  return kNames;
}

struct Hint {
  std::string_view key, advice;
};

constexpr std::string_view kThoughts =
    "write it as 'reasoning', or leave it out; the chat template decides which thoughts are learned, and Gemma 4's "
    "drops "
    "those of answers without tool calls";

constexpr std::string_view kNotLearned = "write \"train\": false on messages that are not to be learned";

constexpr Hint kHints[] = {
    {"training", kNotLearned},
    {"train_detail", kNotLearned},
    {"loss_mask", kNotLearned},
    {"loss_weight", kNotLearned},
    {"loss_scale", kNotLearned},
    {"is_trained", kNotLearned},
    {"supervise", kNotLearned},
    {"chosen", "preference pairs need objective: dpo, orpo, simpo or kto; for sft write the answer as 'completion'"},
    {"rejected", "preference pairs need objective: dpo, orpo, simpo or kto; for sft leave it out"},
    {"label", "labels of answers need objective: kto; for sft leave out bad samples and the key"},
    {"weight", "weights of samples are not supported; leave it out, or set \"train\": false on messages"},
    {"response", "write the answer as 'output', or as 'completion' beside 'prompt'"},
    {"answer", "write the answer as 'output', or as 'completion' beside 'prompt'"},
    {"question", "write the request as 'instruction', or as 'prompt'"},
    {"query", "write the request as 'instruction', or as 'prompt'"},
    {"context", "write it as 'input' beside 'instruction', or into the request"},
    {"thinking", kThoughts},
    {"thought", kThoughts},
    {"images", "list images beside 'conversations' and mark their places with <image>"},
    {"audios", "list audio clips beside 'conversations' and mark their places with <audio>"},
    {"videos", "list videos beside 'conversations' and mark their places with <video>"},
    {"max_frames", "video_frames in the config sets how many frames of each video are taken"},
    {"max_pixels", "video_soft_tokens in the config sets the size of frames, max_soft_tokens that of images"},
    {"video_start", "cut the video and leave the key out: ffmpeg -ss BEGIN -to END -i IN OUT.mp4"},
    {"video_end", "cut the video and leave the key out: ffmpeg -ss BEGIN -to END -i IN OUT.mp4"},
    {"function_call", "write it as 'tool_calls': [{\"function\": {\"name\": …, \"arguments\": …}}]"},
    {"offset", "cut the audio clip and leave the key out"},
    {"system", "write it as the first message, of the role system, of a list of messages"},
    {"tools", "tools need a list of messages"},
    {"chat_template_kwargs", "it needs a list of messages"},
};

std::string advice_for(std::string_view key, const Names& used) {
  std::string list;
  std::string_view nearest;
  std::size_t least = 3;
  for (const std::string_view name : used) {
    list.append(list.empty() ? "" : ", ").append(name);
    const std::size_t distance = edit_distance(key, name);
    if (distance >= least || distance >= name.size()) continue;
    least = distance;
    nearest = name;
  }
  if (!nearest.empty()) return "did you mean '" + std::string(nearest) + "'?";
  for (const Hint& hint : kHints)
    if (hint.key == key) return std::string(hint.advice);
  return "leave it out, or put it into 'metadata'; used here are " + list;
}

bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// null, "", [] and {} say nothing; data sets with one schema for all rows are full of them.
bool is_neutral(const Json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         (value.is_structured() && value.empty());
}

void check(const JsonView& object, std::string_view what, const Names& used, const Names& harmless) {
  if (!object.is_object()) return;
  for (const auto& [name, value] : object.members()) {
    if (is_neutral(value.value()) || contains(used, name) || contains(harmless, name)) continue;
    throw Error(object.source(), ": key '", value.key(), "' is not used in ", what, "; ", advice_for(name, used));
  }
}

const Names& message_harmless() {
  static const Names kNames = {"id",    "idx",      "index",      "timestamp",     "created_at", "date",
                               "model", "metadata", "meta",       "finish_reason", "source",     "score",
                               "lang",  "language", "message_id", "author"};
  return kNames;
}

const Names& loss_keys() {
  static const Names kNames(kLossKeys.begin(), kLossKeys.end());
  return kNames;
}

Names joined(Names names, const Names& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

// Keys of content parts; those of videos only where `is_video`.
Names part_keys(bool is_video) {
  Names keys = {"type", "text", "path", "url", "bytes", "base64"};
  for (const input::MediaKind kind : input::kMediaKinds)
    if (const input::MediaWords& words = input::kMediaWords[kind]; kind != input::MediaKind::kVideo || is_video)
      keys.insert(keys.end(), {words.part, words.url, words.data});
  return is_video ? joined(keys, {"frames", "fps"}) : keys;
}

void check_parts(const JsonView& content) {
  static const Names kUsed = part_keys(false), kVideo = part_keys(true);
  static const Names kHarmless = {"id", "index", "detail", "format", "mime_type", "cache_control", "width", "height"};
  if (!content.is_array()) return;
  for (const JsonView& part : content.elements()) {
    const auto type = part.is_object() ? part.find("type") : std::nullopt;
    const bool is_video = type && type->is_string() && type->text().find("video") != std::string::npos;
    check(part, "a part of the content", is_video ? kVideo : kUsed, kHarmless);
  }
}

void check_calls(const JsonView& calls) {
  if (!calls.is_array()) return;
  for (const JsonView& call : calls.elements()) {
    if (!call.is_object()) continue;
    check(call, "a tool call", {"function", "name", "arguments", "id"}, {"type", "index"});
    if (const auto function = call.find("function")) check(*function, "a tool call", {"name", "arguments"}, {});
  }
}

Names line_keys(SampleForm form) {
  Names media;
  for (const input::MediaWords& words : input::kMediaWords.values) media.emplace_back(words.list);
  const Names chat = joined({"system", "tools", "chat_template_kwargs"}, media);
  if (form == SampleForm::kMessages) return joined({"messages"}, chat);
  if (form == SampleForm::kConversations) return joined({"conversations"}, chat);
  if (form == SampleForm::kPrompt) return joined({"prompt", "completion"}, media);
  if (form == SampleForm::kChatPrompt) return joined({"prompt", "completion"}, chat);
  if (form == SampleForm::kInstruction) return joined({"instruction", "input", "output", "history"}, chat);
  return joined({"text"}, media);
}

// Columns that repeat what is used: Alpaca's rendered `text`, and the `prompt` of UltraChat.
Names repeated_keys(const JsonView& line, SampleForm form) {
  if (form == SampleForm::kInstruction) return {"text"};
  if (form != SampleForm::kMessages) return {};
  const auto prompt = line.find("prompt");
  const Json& messages = line.at("messages").value();
  if (!prompt || !messages.is_array()) return {};
  for (const Json& message : messages)
    if (message.is_object() && message.contains("content") && message["content"] == prompt->value()) return {"prompt"};
  return {};
}

}  // namespace

void check_line_keys(const JsonView& line, SampleForm form) {
  check(line, "this form of sample", line_keys(form), joined(harmless_of_lines(), repeated_keys(line, form)));
}

std::string advice_on_keys(const JsonView& line) {
  std::string out;
  for (const auto& [name, value] : line.members())
    for (const Hint& hint : kHints)
      if (hint.key == name && !is_neutral(value.value()))
        out.append("; '").append(name).append("': ").append(hint.advice);
  return out;
}

void check_message_keys(const JsonView& messages) {
  static const Names kUsed = joined(
      {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content", "tool_responses"},
      loss_keys());
  if (!messages.is_array()) return;
  for (const JsonView& message : messages.elements()) {
    check(message, "a message", kUsed, message_harmless());
    if (!message.is_object()) continue;
    if (const auto content = message.find("content")) check_parts(*content);
    if (const auto calls = message.find("tool_calls")) check_calls(*calls);
    const auto responses = message.find("tool_responses");
    if (!responses || !responses->is_array()) continue;
    for (const JsonView& response : responses->elements())
      check(response, "a tool response", {"name", "response"}, {"id", "tool_call_id"});
  }
}

void check_turn_keys(const JsonView& turns) {
  static const Names kUsed = joined({"from", "value", "role", "content"}, loss_keys());
  if (!turns.is_array()) return;
  for (const JsonView& turn : turns.elements()) check(turn, "a turn", kUsed, message_harmless());
}

void check_tool_keys(const JsonView& tools) {
  static const Names kUsed = {"name", "description", "parameters", "response"};
  static const Names kHarmless = {"id", "type", "strict"};
  if (!tools.is_array()) return;
  for (const JsonView& tool : tools.elements()) {
    const auto function = tool.is_object() ? tool.find("function") : std::nullopt;
    check(tool, "a tool", function ? Names{"function"} : kUsed, kHarmless);
    if (function) check(*function, "a tool", kUsed, kHarmless);
  }
}

}  // namespace bezel::data
