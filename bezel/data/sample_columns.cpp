#include "bezel/data/sample_columns.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "bezel/data/sample_media.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

constexpr std::string_view kTranscribe = "Transcribe the audio.";
constexpr std::string_view kDescribe = "Describe the image.";
constexpr std::string_view kDescribeVideo = "Describe the video.";
constexpr std::array<const char*, 5> kTranscripts = {"text", "sentence", "transcription", "transcript", "caption"};
// Beside `image`, `audio` and `video`.
constexpr std::array<const char*, 7> kImageColumns = {"image_path", "img",      "img_path", "image_paths",
                                                      "image_file", "pictures", "picture"};
constexpr std::array<const char*, 6> kAudioColumns = {"audio_filepath", "audio_path", "audio_paths",
                                                      "audio_file",     "wav",        "wav_path"};
constexpr std::array<const char*, 3> kVideoColumns = {"video_path", "video_file", "video_paths"};

bool holds_something(const Json& value) {
  return !value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty()) &&
         !(value.is_structured() && value.empty());
}

bool has_content(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && holds_something(*found);
}

void rename_column(Json& line, const char* from, const char* to, const std::string& source) {
  if (!has_content(line, from)) return;
  if (has_content(line, to))
    throw Error(source, ": keys '", from, "' and '", to, "' stand side by side; write '", to, "' alone");
  line[to] = line[from];
  line.erase(from);
}

// A text that begins as a list is read as JSON.
void parse_column(Json& line, const char* key, const std::string& source) {
  if (!has_content(line, key) || !line[key].is_string()) return;
  const std::string text = line[key];
  if (text.find_first_not_of(" \t\r\n") == text.npos || text[text.find_first_not_of(" \t\r\n")] != '[') return;
  try {
    io::JsonLimits limits;
    limits.max_bytes = text.size();
    limits.keeps_big_integers = true;
    line[key] = io::parse_json(text, source + ": key '" + key + "'", limits);
  } catch (const Error& error) {
    throw Error(error.what(), "; a text here must hold a list as JSON, as Python's json.dumps writes it");
  }
}

void list_column(Json& line, const char* from, const char* to, const std::string& source) {
  rename_column(line, from, to, source);
  if (has_content(line, to) && !line[to].is_array()) line[to] = Json::array({line[to]});
}

bool ends_with_any(std::string name, std::initializer_list<std::string_view> endings) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const std::string_view ending : endings)
    if (name.ends_with(ending)) return true;
  return false;
}

// `file_name` of the data sets library's image and audio folders, `path` of Common Voice.
void place_file_name(Json& line, const char* key, const std::string& source) {
  if (!has_content(line, key)) return;
  const std::string name = JsonView(line, source).at(key).text();
  if (ends_with_any(name, {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}))
    list_column(line, key, "images", source);
  else if (ends_with_any(name, {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac"}))
    list_column(line, key, "audios", source);
  else if (ends_with_any(name, {".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"}))
    list_column(line, key, "videos", source);
  else
    throw Error(source, ": key '", key, "': '", name.substr(0, 200),
                "' is no kind of file that is read; write it as 'images' (JPEG, PNG, WebP, GIF, BMP, TIFF), 'audios' ",
                "(WAV, FLAC, MP3, OGG) or 'videos' (MP4, MOV, WebM, MKV, AVI)");
}

std::optional<std::string> transcript_key(const JsonView& line) {
  std::optional<std::string> key;
  for (const char* name : kTranscripts) {
    if (!has_content(line.value(), name)) continue;
    if (key) throw Error(line.source(), ": keys '", *key, "' and '", name, "' both give the answer; write one of them");
    key = name;
  }
  return key;
}

std::optional<std::string> take_request(Json& line, const std::string& source) {
  for (const char* key : {"prompt", "instruction", "question"})
    if (has_content(line, key)) {
      std::string request = JsonView(line, source).at(key).text();
      line.erase(key);
      return request;
    }
  return std::nullopt;
}

// Keys of a manifest that repeat where the medium is, and where it begins when that is its begin.
void drop_manifest_keys(Json& line) {
  for (const char* key : {"file", "path", "file_name", "offset"}) {
    const auto found = line.find(key);
    if (found != line.end() && (std::string_view(key) != "offset" || *found == 0)) line.erase(key);
  }
}

// What answers for a medium: its text, unless `listed` media belong to that text, or the answer to a question.
std::optional<std::string> answer_key(const JsonView& line, bool listed) {
  auto key = listed ? std::nullopt : transcript_key(line);
  if (!key && has_content(line.value(), "question") && has_content(line.value(), "answer")) key = "answer";
  return key;
}

bool has_any_media(const Json& line) {
  return std::ranges::any_of(input::kMediaWords.values,
                             [&](const input::MediaWords& words) { return has_content(line, words.list.data()); });
}

std::string_view usual_request(const Json& line) {
  return has_content(line, "audios") ? kTranscribe : has_content(line, "images") ? kDescribe : kDescribeVideo;
}

// A medium with what is said or seen in it becomes a chat. Returns whether its request is ours.
bool make_chat(Json& line, bool listed, const std::string& source) {
  for (const char* key : {"messages", "conversations", "completion", "output"})
    if (has_content(line, key)) return false;
  const auto key = answer_key(JsonView(line, source), listed);
  if (!key || !has_any_media(line)) return false;
  const std::string answer = JsonView(line, source).at(*key).text();
  // Plain text with its media.
  for (const input::MediaWords& words : input::kMediaWords.values)
    if (count_of(answer, words.placeholder) != 0 || count_of(answer, words.tag) != 0) return false;
  drop_manifest_keys(line);
  const auto request = take_request(line, source);
  line.erase(*key);
  line["messages"] = Json::array({{{"role", "user"}, {"content", request.value_or(std::string(usual_request(line)))}},
                                  {{"role", "assistant"}, {"content", answer}}});
  return !request;
}

bool marks_media(const Json& messages, std::string_view type, std::string_view placeholder) {
  for (const Json& message : messages) {
    const auto content = message.is_object() ? message.find("content") : message.end();
    if (!message.is_object() || content == message.end()) continue;
    if (content->is_string() && count_of(content->get_ref<const std::string&>(), placeholder) != 0) return true;
    if (!content->is_array()) continue;
    for (const Json& part : *content) {
      if (!part.is_object()) continue;
      const auto kind = part.find("type");
      if (kind != part.end() && kind->is_string() &&
          kind->get_ref<const std::string&>().find(type) != std::string::npos)
        return true;
      const auto text = part.find("text");
      if (text != part.end() && text->is_string() && count_of(text->get_ref<const std::string&>(), placeholder) != 0)
        return true;
    }
  }
  return false;
}

// Whether the line holds a chat already.
bool is_chat(const Json& line) { return has_content(line, "messages") || has_content(line, "conversations"); }

}  // namespace

KnownColumns with_known_columns(const JsonView& line) {
  KnownColumns known{line.value()};
  Json& out = known.line;
  if (!out.is_object()) return known;
  const std::string& source = line.source();
  for (const char* key : {"messages", "conversations"}) parse_column(out, key, source);
  for (const input::MediaWords& words : input::kMediaWords.values) parse_column(out, words.list.data(), source);
  const bool listed = has_any_media(out);
  for (const input::MediaWords& words : input::kMediaWords.values)
    list_column(out, words.part.data(), words.list.data(), source);
  for (const char* key : kImageColumns) list_column(out, key, "images", source);
  for (const char* key : kAudioColumns) list_column(out, key, "audios", source);
  for (const char* key : kVideoColumns) list_column(out, key, "videos", source);
  for (const char* key : {"file_name", "path"})
    if (!has_any_media(out) && (key[0] == 'f' || !is_chat(out))) place_file_name(out, key, source);
  for (const input::MediaWords& words : input::kMediaWords.values)
    if (has_content(out, words.list.data()) && !out[words.list].is_array())
      out[words.list] = Json::array({out[words.list]});
  rename_column(out, "functions", "tools", source);
  rename_column(out, "system_prompt", "system", source);
  known.adds_request = make_chat(out, listed, source);
  return known;
}

bool has_media(const JsonView& line, input::MediaKind kind) {
  return has_content(line.value(), input::kMediaWords[kind].list.data());
}

void mark_listed_media(const JsonView& line, Json& messages) {
  if (!messages.is_array()) return;
  Json parts = Json::array();
  for (const input::MediaKind kind : input::kMediaKinds) {
    const input::MediaWords& words = input::kMediaWords[kind];
    if (!has_media(line, kind) || marks_media(messages, words.part, words.placeholder)) continue;
    for (std::size_t i = 0; i < line.value()[words.list].size(); ++i) parts.push_back({{"type", words.part}});
  }
  if (parts.empty()) return;
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("role") || message["role"] != "user") continue;
    const auto content = message.find("content");
    if (content == message.end()) return;
    if (content->is_string()) parts.push_back({{"type", "text"}, {"text", *content}});
    if (content->is_array())
      for (const Json& part : *content) parts.push_back(part);
    *content = std::move(parts);
    return;
  }
}

void rename_input_schema(Json& tools, const std::string& source) {
  if (!tools.is_array()) return;
  for (Json& tool : tools) {
    if (!tool.is_object()) continue;
    Json& function = tool.contains("function") && tool["function"].is_object() ? tool["function"] : tool;
    rename_column(function, "input_schema", "parameters", source);
  }
}

}  // namespace bezel::data
