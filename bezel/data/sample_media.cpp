#include "bezel/data/sample_media.h"

#include <optional>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

struct Names {
  MediaKind kind;
  const char* list;         // key of the list beside the messages
  const char* part;         // type of a part, and one of the keys that may name its file
  const char* url;          // type and key of OpenAI's form with a URL
  const char* data;         // and of its form with base64
  const char* placeholder;  // in the rendered text
};

constexpr Names kImage{MediaKind::kImage, "images", "image", "image_url", "input_image", "<|image|>"};
constexpr Names kAudio{MediaKind::kAudio, "audios", "audio", "audio_url", "input_audio", "<|audio|>"};

// Whether `text` is a file in base64, by the first bytes of the kinds that are read: JPEG, PNG, RIFF (WebP, WAV), GIF,
// BMP, TIFF, FLAC, Ogg and MP3 with a tag. File names of that length without a dot do not occur.
bool is_bare_base64(std::string_view text) {
  if (text.size() < 40 || text.find('.') != std::string_view::npos) return false;
  for (const std::string_view begin :
       {"/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk0", "Qk1", "Qk2", "Qk3", "SUkq", "TU0A", "ZkxhQ", "T2dnU", "SUQz"})
    if (text.starts_with(begin)) return true;
  return false;
}

// A path, a "data:image/png;base64,..." URI or what such a URI holds.
MediaSource source_of(const JsonView& value, const Names& names) {
  const std::string text = value.text();
  if (is_bare_base64(text)) return {names.kind, "", decode_base64(text, value.source())};
  if (text.substr(0, 5) != "data:") return {names.kind, text, ""};
  const auto comma = text.find(";base64,");
  if (comma == std::string::npos)
    throw Error(value.source(), ": key '", value.key(), "': a data: URI without ';base64,'");
  return {names.kind, "", decode_base64(std::string_view(text).substr(comma + 8), value.source())};
}

// {"url": ...}, {"data": base64} or the text itself, under the key that is named like the type.
std::optional<MediaSource> openai_source(const JsonView& part, const Names& names) {
  for (const char* key : {names.url, names.data}) {
    const auto inner = part.find(key);
    if (!inner) continue;
    if (inner->is_string()) return source_of(*inner, names);
    const auto data = inner->find("data");
    if (!data) return source_of(inner->at("url"), names);
    if (data->text().starts_with("data:")) return source_of(*data, names);
    return MediaSource{names.kind, "", decode_base64(data->text(), part.source())};
  }
  return std::nullopt;
}

// What a part, or an entry of a list, names itself; nothing when it only marks a place.
std::optional<MediaSource> own_source(const JsonView& part, const Names& names) {
  if (part.is_string()) return source_of(part, names);
  // The data sets library writes {"bytes": …, "path": …}, where the path is a name only once there are bytes.
  for (const char* key : {"bytes", "base64"})
    if (const auto bytes = part.find(key))
      return MediaSource{names.kind, "", decode_base64(bytes->text(), part.source())};
  for (const char* key : {"path", names.part, "url"})
    if (const auto value = part.find(key))
      return value->is_object() ? own_source(*value, names) : source_of(*value, names);
  return openai_source(part, names);
}

bool is_type_of(const std::string& type, const Names& names) {
  return type == names.part || type == names.url || type == names.data;
}

std::vector<JsonView> media_parts(const JsonView& messages, const Names& names) {
  std::vector<JsonView> out;
  for (const JsonView& message : messages.elements()) {
    const auto content = message.find("content");
    if (!content || !content->is_array()) continue;
    for (const JsonView& part : content->elements()) {
      const auto type = part.find("type");
      if (!type || !type->is_string()) continue;
      if (type->text() == "video")
        throw Error(part.source(), ": key '", part.key(), "': video is not supported; give its frames as images");
      if (is_type_of(type->text(), names)) out.push_back(part);
    }
  }
  return out;
}

std::vector<MediaSource> listed_sources(const JsonView& line, const Names& names) {
  std::vector<MediaSource> out;
  const auto list = line.find(names.list);
  if (!list) return out;
  for (const JsonView& entry : list->elements()) {
    auto source = own_source(entry, names);
    if (!source) entry.fail("a path, or an object with the key 'path'");
    out.push_back(std::move(*source));
  }
  return out;
}

void collect_kind(const JsonView& line, const std::optional<JsonView>& messages, const Names& names,
                  std::string_view text, std::vector<MediaSource>& out) {
  const std::vector<MediaSource> listed = listed_sources(line, names);
  const std::vector<JsonView> parts = messages ? media_parts(*messages, names) : std::vector<JsonView>{};
  std::size_t next = 0;
  for (const JsonView& part : parts) {
    if (auto own = own_source(part, names)) {
      out.push_back(std::move(*own));
    } else if (next < listed.size()) {
      out.push_back(listed[next++]);
    } else {
      throw Error(part.source(), ": key '", part.key(), "': names no file, and the list '", names.list, "' has only ",
                  listed.size(), " entries");
    }
  }
  const std::size_t placeholders = count_of(text, names.placeholder);
  const std::size_t given = parts.size() + listed.size() - next;
  if (placeholders != given)
    throw Error(line.source(), ": the text holds ", placeholders, " ", names.placeholder, ", but ", given, " ",
                names.list, " are given",
                placeholders != 0 ? ""
                : messages        ? "; mark their places with {\"type\": \"" + std::string(names.part) + "\"} parts"
                                  : "; write " + std::string(names.placeholder) + " where each belongs in the text");
  if (!parts.empty() && placeholders != parts.size())
    throw Error(line.source(), ": ", names.placeholder, " is typed in the text beside ", names.part,
                " parts, so their order is not known; use parts only");
  for (; next < listed.size(); ++next) out.push_back(listed[next]);
}

}  // namespace

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

void collect_media(const JsonView& line, const Json* messages, SampleText& sample) {
  std::optional<JsonView> view;
  if (messages != nullptr) view.emplace(*messages, line.source(), "messages");
  collect_kind(line, view, kImage, sample.text, sample.images);
  collect_kind(line, view, kAudio, sample.text, sample.audios);
  if (count_of(sample.text, "<|video|>") != 0)
    throw Error(line.source(), ": the text holds <|video|>, but video is not supported; give its frames as images");
}

}  // namespace bezel::data
