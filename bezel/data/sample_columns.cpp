#include "bezel/data/sample_columns.h"

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
constexpr std::array<const char*, 5> kTranscripts = {"text", "sentence", "transcription", "transcript", "caption"};

bool holds_something(const Json& value) {
  return !value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty()) &&
         !(value.is_structured() && value.empty());
}

bool has(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && holds_something(*found);
}

void rename_column(Json& line, const char* from, const char* to, const std::string& source) {
  if (!has(line, from)) return;
  if (has(line, to))
    throw Error(source, ": keys '", from, "' and '", to, "' stand side by side; write '", to, "' alone");
  line[to] = line[from];
  line.erase(from);
}

void list_column(Json& line, const char* from, const char* to, const std::string& source) {
  rename_column(line, from, to, source);
  if (has(line, to) && !line[to].is_array()) line[to] = Json::array({line[to]});
}

bool ends_with_any(std::string name, std::initializer_list<std::string_view> endings) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const std::string_view ending : endings)
    if (name.ends_with(ending)) return true;
  return false;
}

// `file_name` of the data sets library's image and audio folders.
void place_file_name(Json& line, const std::string& source) {
  if (!has(line, "file_name")) return;
  const std::string name = JsonView(line, source).at("file_name").text();
  if (ends_with_any(name, {".png", ".jpg", ".jpeg", ".webp"}))
    list_column(line, "file_name", "images", source);
  else if (ends_with_any(name, {".wav", ".flac", ".mp3", ".ogg"}))
    list_column(line, "file_name", "audios", source);
  else
    throw Error(source, ": key 'file_name': '", name.substr(0, 200),
                "' is no known kind of file; write it as 'images' or ", "'audios'");
}

std::optional<std::string> transcript_key(const JsonView& line) {
  std::optional<std::string> key;
  for (const char* name : kTranscripts) {
    if (!has(line.value(), name)) continue;
    if (key) throw Error(line.source(), ": keys '", *key, "' and '", name, "' both give the answer; write one of them");
    key = name;
  }
  return key;
}

std::string request_of(Json& line, bool is_audio, const std::string& source) {
  for (const char* key : {"prompt", "instruction"})
    if (has(line, key)) {
      const std::string request = JsonView(line, source).at(key).text();
      line.erase(key);
      return request;
    }
  if (is_audio) return std::string(kTranscribe);
  throw Error(source, ": a picture and its text, but nothing that asks for it; add the key 'prompt', such as ",
              "\"Describe the picture.\"");
}

// A medium with what is said or seen in it becomes a chat.
void make_chat(Json& line, const std::string& source) {
  for (const char* key : {"messages", "conversations", "completion", "output"})
    if (has(line, key)) return;
  const auto key = transcript_key(JsonView(line, source));
  const bool is_audio = has(line, "audios");
  if (!key || (!is_audio && !has(line, "images"))) return;
  const std::string answer = JsonView(line, source).at(*key).text();
  if (count_of(answer, "<|image|>") + count_of(answer, "<|audio|>") != 0) return;  // plain text with its media
  if (has(line, "offset") && line["offset"] == 0) line.erase("offset");
  Json content = Json::array();
  for (const char* list : {"images", "audios"})
    for (std::size_t i = 0; has(line, list) && i < line[list].size(); ++i)
      content.push_back({{"type", std::string_view(list) == "images" ? "image" : "audio"}});
  content.push_back({{"type", "text"}, {"text", request_of(line, is_audio, source)}});
  line.erase(*key);
  line["messages"] =
      Json::array({{{"role", "user"}, {"content", std::move(content)}}, {{"role", "assistant"}, {"content", answer}}});
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

}  // namespace

Json with_known_columns(const JsonView& line) {
  Json out = line.value();
  if (!out.is_object()) return out;
  for (const char* key : {"messages", "conversations"})
    if (has(out, key) && out[key].is_string() && out[key].get_ref<const std::string&>().starts_with('['))
      out[key] = io::parse_json(Json(out[key]).get<std::string>(), line.source() + ": key '" + key + "'");
  bool single = false;
  for (const char* key : {"image", "audio", "audio_filepath", "file_name"}) single = single || has(out, key);
  for (const char* key : {"video", "videos"})
    if (has(out, key))
      throw Error(line.source(), ": key '", key, "': video is not supported yet; give its frames as 'images'");
  list_column(out, "image", "images", line.source());
  list_column(out, "audio", "audios", line.source());
  list_column(out, "audio_filepath", "audios", line.source());
  place_file_name(out, line.source());
  rename_column(out, "functions", "tools", line.source());
  if (single) make_chat(out, line.source());
  return out;
}

bool has_media(const JsonView& line, const char* name) { return has(line.value(), name); }

void mark_listed_media(const JsonView& line, Json& messages) {
  if (!messages.is_array()) return;
  Json parts = Json::array();
  for (const auto& [list, type, placeholder] :
       {std::array{"images", "image", "<|image|>"}, std::array{"audios", "audio", "<|audio|>"}}) {
    if (!has_media(line, list) || marks_media(messages, type, placeholder)) continue;
    for (std::size_t i = 0; i < line.value()[list].size(); ++i) parts.push_back({{"type", type}});
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
