#include "bezel/data/json_elements.h"

#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kMaxOpen = 1000;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// Brackets that `line` leaves open; nothing where it ends inside a string or closes what it has not opened.
std::string open_brackets(std::string_view line) {
  std::string open;
  bool in_string = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      open += c;
    } else if (c == '}' || c == ']') {
      if (open.empty()) return "";
      open.pop_back();
    }
  }
  return in_string ? "" : open;
}

}  // namespace

JsonLayout find_json_layout(std::string_view head) {
  std::size_t at = 0;
  while (at < head.size() && is_blank(head[at])) ++at;
  if (at == head.size()) return JsonLayout::kLines;
  if (head[at] == '[') return JsonLayout::kArray;
  const std::size_t end = head.find('\n', at);
  if (head[at] != '{' || end == std::string_view::npos) return JsonLayout::kLines;
  const std::string open = open_brackets(head.substr(at, end - at));
  if (open.empty()) return JsonLayout::kLines;
  std::size_t next = end;
  while (next < head.size() && is_blank(head[next])) ++next;
  if (next == head.size()) return JsonLayout::kLines;
  const bool indented = head[next - 1] != '\n';
  const std::string_view continues = open.back() == '[' && indented ? "\"[]{" : "\"[]}";
  return continues.find(head[next]) == std::string_view::npos ? JsonLayout::kLines : JsonLayout::kObjects;
}

void JsonElements::fail(std::string_view what) const {
  throw Error(path_, ":", line_, ": ", what,
              "; samples are one JSON object a line, a JSON array of objects, or objects over several lines");
}

void JsonElements::feed(std::string_view chunk, std::uint64_t offset) {
  for (const char c : chunk) {
    if (in_string_) {
      read_in_string(c);
    } else if (!is_blank(c)) {
      if (stack_.empty()) {
        read_between(c, offset);
      } else {
        read_inside(c, offset);
      }
    }
    if (c == '\n') ++line_;
    ++offset;
  }
}

void JsonElements::read_in_string(char c) {
  if (c == '\n') fail("the line ends inside a string");
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    in_string_ = false;
  }
}

void JsonElements::begin_element(char c, std::uint64_t offset) {
  open_ = {offset, 0, line_};
  stack_ = c;
  last_ = c;
}

void JsonElements::read_between(char c, std::uint64_t offset) {
  const bool is_array = layout_ == JsonLayout::kArray;
  if (next_ == Next::kNothing) fail("more text after the end of the array");
  if (next_ == Next::kArrayBegin) {
    next_ = Next::kElementOrEnd;  // find_json_layout has seen the bracket
  } else if (c == ']' && is_array && next_ != Next::kElement) {
    next_ = Next::kNothing;
  } else if (c == ',' && next_ == Next::kCommaOrEnd) {
    next_ = Next::kElement;
  } else if (c == '{' && next_ != Next::kCommaOrEnd) {
    begin_element(c, offset);
  } else {
    fail(next_ == Next::kCommaOrEnd ? "expected a comma or the end of the array after a sample"
                                    : "expected an object, which begins with {");
  }
}

void JsonElements::read_inside(char c, std::uint64_t offset) {
  if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    // A sample that was cut off would otherwise take in the one behind it.
    if (stack_.back() == '{' && last_ != ':')
      fail("a bracket where a key is expected; the sample that begins on line " + std::to_string(open_.number) +
           " has no end");
    if (stack_.size() == kMaxOpen) fail("nested too deeply");
    stack_ += c;
  } else if (c == '}' || c == ']') {
    if ((c == '}') != (stack_.back() == '{'))
      fail("a bracket that does not match, in the sample that begins on line " + std::to_string(open_.number));
    stack_.pop_back();
    if (stack_.empty()) {
      open_.bytes = offset + 1 - open_.begin;
      elements_.push_back(open_);
      if (layout_ == JsonLayout::kArray) next_ = Next::kCommaOrEnd;
    }
  }
  last_ = c;
}

std::vector<TextRange> JsonElements::finish() {
  if (!stack_.empty()) fail("the file ends inside the sample that begins on line " + std::to_string(open_.number));
  if (layout_ == JsonLayout::kArray && next_ != Next::kNothing) fail("the file ends inside the array");
  return std::move(elements_);
}

}  // namespace bezel::data
