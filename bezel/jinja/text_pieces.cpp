#include "bezel/jinja/text_pieces.h"

#include <algorithm>

#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

std::size_t start_of_last(std::string_view text, std::size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

bool is_taken(std::string_view character, std::optional<std::string_view> chars) {
  return chars ? chars->find(character) != std::string_view::npos : is_space(code_point_at(character, 0).value);
}

bool is_line_end(std::uint32_t code) {
  return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

std::vector<TracedText> split_spaces(const TracedText& text, std::int64_t most) {
  std::vector<TracedText> out;
  const std::string_view bytes = text.bytes();
  std::size_t at = skip_space(bytes, 0);
  while (at < bytes.size()) {
    if (most >= 0 && static_cast<std::int64_t>(out.size()) == most) {
      out.push_back(stripped(text.substr(at, bytes.size()), Side::kRight, std::nullopt));
      return out;
    }
    std::size_t end = at;
    while (end < bytes.size() && !is_space(code_point_at(bytes, end).value)) end += code_point_at(bytes, end).bytes;
    out.push_back(text.substr(at, end));
    at = skip_space(bytes, end);
  }
  return out;
}

std::vector<TracedText> rsplit_spaces(const TracedText& text, std::int64_t most) {
  std::vector<TracedText> out;
  const std::string_view bytes = text.bytes();
  std::size_t end = size_without_trailing_space(bytes);
  while (end > 0) {
    if (most >= 0 && static_cast<std::int64_t>(out.size()) == most) {
      out.push_back(text.substr(0, end));
      break;
    }
    std::size_t begin = end;
    for (std::size_t before = begin; before > 0; begin = before) {
      before = start_of_last(bytes, begin);
      if (is_space(code_point_at(bytes, before).value)) break;
    }
    out.push_back(text.substr(begin, end));
    end = size_without_trailing_space(bytes.substr(0, begin));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

TracedText stripped(const TracedText& text, Side side, std::optional<std::string_view> chars) {
  const std::string_view bytes = text.bytes();
  std::size_t begin = 0, end = bytes.size();
  while (side != Side::kRight && begin < end) {
    const std::size_t length = code_point_at(bytes, begin).bytes;
    if (!is_taken(bytes.substr(begin, length), chars)) break;
    begin += length;
  }
  while (side != Side::kLeft && end > begin) {
    const std::size_t last = start_of_last(bytes, end);
    if (!is_taken(bytes.substr(last, end - last), chars)) break;
    end = last;
  }
  return text.substr(begin, end);
}

std::vector<TracedText> split_text(const TracedText& text, std::optional<std::string_view> separator,
                                   std::int64_t most) {
  if (!separator) return split_spaces(text, most);
  std::vector<TracedText> out;
  std::size_t at = 0;
  while (most < 0 || static_cast<std::int64_t>(out.size()) < most) {
    const std::size_t hit = text.bytes().find(*separator, at);
    if (hit == std::string::npos) break;
    out.push_back(text.substr(at, hit));
    at = hit + separator->size();
  }
  out.push_back(text.substr(at, text.size()));
  return out;
}

std::vector<TracedText> rsplit_text(const TracedText& text, std::optional<std::string_view> separator,
                                    std::int64_t most) {
  if (!separator) return rsplit_spaces(text, most);
  std::vector<TracedText> out;
  std::size_t end = text.size();
  while ((most < 0 || static_cast<std::int64_t>(out.size()) < most) && end >= separator->size()) {
    const std::size_t hit = text.bytes().rfind(*separator, end - separator->size());
    if (hit == std::string::npos) break;
    out.push_back(text.substr(hit + separator->size(), end));
    end = hit;
  }
  out.push_back(text.substr(0, end));
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<TracedText> split_lines(const TracedText& text, bool keep_ends) {
  std::vector<TracedText> out;
  const std::string_view bytes = text.bytes();
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const CodePoint point = code_point_at(bytes, at);
    const std::size_t line_end = at;
    at += point.bytes;
    if (!is_line_end(point.value)) continue;
    if (point.value == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    out.push_back(text.substr(begin, keep_ends ? at : line_end));
    begin = at;
  }
  if (begin < bytes.size()) out.push_back(text.substr(begin, bytes.size()));
  return out;
}

std::size_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return characters_of(text) + 1;
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TracedText replaced(const TracedText& text, std::string_view from, const TracedText& to, std::int64_t most) {
  TracedText out;
  std::size_t at = 0;
  for (std::int64_t count = 0; most < 0 || count < most; ++count) {
    if (from.empty()) {
      // An empty text is found in front of every character and at the end.
      out.append(to);
      if (at == text.size()) return out;
      const std::size_t end = at + code_point_at(text.bytes(), at).bytes;
      out.append(text, at, end);
      at = end;
      continue;
    }
    const std::size_t hit = text.bytes().find(from, at);
    if (hit == std::string::npos) break;
    out.append(text, at, hit);
    out.append(to);
    at = hit + from.size();
  }
  out.append(text, at, text.size());
  return out;
}

std::size_t characters_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t offset_of(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += code_point_at(text, at).bytes;
  return at;
}

}  // namespace bezel::jinja
