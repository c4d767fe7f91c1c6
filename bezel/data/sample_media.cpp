#include "bezel/data/sample_media.h"

#include <optional>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using io::JsonView;

using input::kMediaWords;
using Sources = std::vector<MediaSource>;

// Whether `text` is a file in base64, by the first bytes of the kinds that are read: JPEG, PNG, RIFF (WebP, WAV), GIF,
// BMP, TIFF, FLAC, Ogg, MP3 with a tag, Matroska and MP4. File names of that length without a dot do not occur.
bool is_bare_base64(std::string_view text) {
  if (text.size() < 40 || text.find('.') != std::string_view::npos) return false;
  for (const std::string_view begin :
       {"/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk0", "Qk1", "Qk2", "Qk3", "SUkq", "TU0A", "ZkxhQ", "T2dnU", "SUQz",
        "GkXfo", "AAAAGGZ0eX", "AAAAHGZ0eX", "AAAAIGZ0eX"})
    if (text.starts_with(begin)) return true;
  return false;
}

// A path, a "data:image/png;base64,..." URI or what such a URI holds.
MediaSource source_of(const JsonView& value, MediaKind kind) {
  const std::string text = value.text();
  if (is_bare_base64(text)) return {kind, "", decode_base64(text, value.source())};
  if (text.substr(0, 5) != "data:") return {kind, text, ""};
  const auto comma = text.find(";base64,");
  if (comma == std::string::npos)
    throw Error(value.source(), ": key '", value.key(), "': a data: URI without ';base64,'");
  return {kind, "", decode_base64(std::string_view(text).substr(comma + 8), value.source())};
}

// {"url": ...}, {"data": base64} or the text itself, under the key that is named like the type.
std::optional<MediaSource> openai_source(const JsonView& part, MediaKind kind) {
  for (const std::string_view key : {kMediaWords[kind].url, kMediaWords[kind].data}) {
    const auto inner = part.find(key);
    if (!inner) continue;
    if (inner->is_string()) return source_of(*inner, kind);
    const auto data = inner->find("data");
    if (!data) return source_of(inner->at("url"), kind);
    if (data->text().starts_with("data:")) return source_of(*data, kind);
    return MediaSource{kind, "", decode_base64(data->text(), part.source())};
  }
  return std::nullopt;
}

// A video that is a list of images.
MediaSource frames_source(const JsonView& list, std::optional<double> fps) {
  MediaSource source{.kind = MediaKind::kVideo, .fps = fps};
  if (!fps)
    throw Error(
        list.source(), ": key '", list.key(), "': a list of frames needs their rate; write the video as ",
        "{\"type\": \"video\", \"frames\": [FILES], \"fps\": 24} (24 is what transformers takes where it is unknown)");
  for (const JsonView& frame : list.elements()) source.frames.push_back(frame.text());
  if (source.frames.empty()) throw Error(list.source(), ": key '", list.key(), "': a video without frames");
  return source;
}

std::optional<double> rate_of(const JsonView& part) {
  const auto fps = part.find("fps");
  if (!fps) return std::nullopt;
  return fps->number();
}

std::optional<MediaSource> own_source(const JsonView& part, MediaKind kind);

// The frames of an object, or what it names with their rate beside it.
std::optional<MediaSource> video_source(const JsonView& part) {
  const std::optional<double> fps = rate_of(part);
  for (const std::string_view key : {"frames", "video", "path", "url"})
    if (const auto value = part.find(key); value && (value->is_array() || key == "frames"))
      return frames_source(*value, fps);
  for (const std::string_view key : {"path", "video", "url"})
    if (const auto value = part.find(key); value && fps && value->is_string()) {
      MediaSource source = source_of(*value, MediaKind::kVideo);
      source.fps = fps;
      return source;
    }
  return std::nullopt;
}

// What a part, or an entry of a list, names itself; nothing when it only marks a place.
std::optional<MediaSource> own_source(const JsonView& part, MediaKind kind) {
  if (part.is_string()) return source_of(part, kind);
  if (kind == MediaKind::kVideo) {
    if (part.is_array()) return frames_source(part, std::nullopt);
    if (auto source = video_source(part)) return source;
  }
  // The data sets library writes {"bytes": …, "path": …}, where the path is a name only once there are bytes.
  for (const char* key : {"bytes", "base64"})
    if (const auto bytes = part.find(key)) return MediaSource{kind, "", decode_base64(bytes->text(), part.source())};
  for (const std::string_view key : {std::string_view("path"), kMediaWords[kind].part, std::string_view("url")})
    if (const auto value = part.find(key))
      return value->is_object() ? own_source(*value, kind) : source_of(*value, kind);
  return openai_source(part, kind);
}

bool is_type_of(const std::string& type, MediaKind kind) {
  const input::MediaWords& words = kMediaWords[kind];
  return type == words.part || type == words.url || type == words.data;
}

std::vector<JsonView> media_parts(const JsonView& messages, MediaKind kind) {
  std::vector<JsonView> out;
  for (const JsonView& message : messages.elements()) {
    const auto content = message.find("content");
    if (!content || !content->is_array()) continue;
    for (const JsonView& part : content->elements()) {
      const auto type = part.find("type");
      if (!type || !type->is_string()) continue;
      if (is_type_of(type->text(), kind)) out.push_back(part);
    }
  }
  return out;
}

std::vector<MediaSource> listed_sources(const JsonView& line, MediaKind kind) {
  std::vector<MediaSource> out;
  const auto list = line.find(kMediaWords[kind].list);
  if (!list) return out;
  for (const JsonView& entry : list->elements()) {
    auto source = own_source(entry, kind);
    if (!source) entry.fail("a path, or an object with the key 'path'");
    out.push_back(std::move(*source));
  }
  return out;
}

Sources collect_kind(const JsonView& line, const std::optional<JsonView>& messages, MediaKind kind,
                     std::string_view text) {
  const input::MediaWords& names = kMediaWords[kind];
  const Sources listed = listed_sources(line, kind);
  const std::vector<JsonView> parts = messages ? media_parts(*messages, kind) : std::vector<JsonView>{};
  Sources out;
  std::size_t next = 0;
  for (const JsonView& part : parts) {
    if (auto own = own_source(part, kind)) {
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
  return out;
}

}  // namespace

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::optional<Placeholder> next_placeholder(std::string_view text, std::size_t begin) {
  std::optional<Placeholder> first;
  for (const MediaKind kind : input::kMediaKinds) {
    const std::size_t hit = text.find(kMediaWords[kind].placeholder, begin);
    if (hit != std::string_view::npos && (!first || hit < first->begin)) first = {kind, hit};
  }
  return first;
}

void collect_media(const JsonView& line, const Json* messages, SampleText& sample) {
  std::optional<JsonView> view;
  if (messages != nullptr) view.emplace(*messages, line.source(), "messages");
  input::PerKind<Sources> sources;
  for (const MediaKind kind : input::kMediaKinds) sources[kind] = collect_kind(line, view, kind, sample.text);
  sample.media = in_placeholder_order(sample.text, sources);
}

}  // namespace bezel::data
