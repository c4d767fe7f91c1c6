#include "bezel/train/config_yaml.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "bezel/error.h"

namespace bezel::train {
namespace {

constexpr std::size_t kMaxBytes = 1u << 20;
constexpr std::size_t kMaxDepth = 8;
constexpr std::size_t kShownBytes = 60;

std::string place(const std::string& source, const YAML::Mark& mark) {
  return mark.is_null() ? source : source + ":" + std::to_string(mark.line + 1);
}

/// Builds ConfigValues from the parser's events. Events, and not YAML::Node, because nodes keep only one of two
/// equal keys apart by luck and follow aliases without limit.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string source) : source_(std::move(source)) {}

  ConfigValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Error(ErrorKind::kConfig, place(source_, mark),
                ": aliases (*name) are not read in a config; write the value");
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(leaf(mark, ConfigValue::Kind::kNull)); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& text) override {
    ConfigValue value = leaf(mark, ConfigValue::Kind::kScalar);
    value.text = text;
    const bool is_plain = tag == "?";
    if (is_plain && (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL"))
      value.kind = ConfigValue::Kind::kNull;
    add(std::move(value));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(leaf(mark, ConfigValue::Kind::kList));
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(leaf(mark, ConfigValue::Kind::kMap));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    ConfigValue value;
    std::string pending_key, pending_where;
    bool has_key = false;
  };

  ConfigValue leaf(const YAML::Mark& mark, ConfigValue::Kind kind) const {
    ConfigValue value;
    value.kind = kind;
    value.where = place(source_, mark);
    if (frames_.empty()) return value;
    const Frame& frame = frames_.back();
    value.key = frame.has_key ? frame.pending_key : frame.value.key;
    if (frame.has_key) value.where = frame.pending_where;
    return value;
  }

  void open(ConfigValue value) {
    const bool is_key =
        !frames_.empty() && frames_.back().value.kind == ConfigValue::Kind::kMap && !frames_.back().has_key;
    if (is_key) throw Error(ErrorKind::kConfig, value.where, ": a list or map cannot be a key");
    if (frames_.size() >= kMaxDepth)
      throw Error(ErrorKind::kConfig, value.where, ": nested deeper than ", kMaxDepth, " levels, which no key needs");
    frames_.push_back({std::move(value), "", "", false});
  }

  void close() {
    ConfigValue value = std::move(frames_.back().value);
    frames_.pop_back();
    add(std::move(value));
  }

  void add(ConfigValue value) {
    if (frames_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.value.kind == ConfigValue::Kind::kList) {
      frame.value.items.push_back(std::move(value));
    } else if (!frame.has_key) {
      set_key(frame, value);
    } else {
      frame.value.members.push_back({std::move(frame.pending_key), std::move(value)});
      frame.has_key = false;
    }
  }

  static void set_key(Frame& frame, const ConfigValue& key) {
    if (key.kind != ConfigValue::Kind::kScalar || key.text.empty())
      throw Error(ErrorKind::kConfig, key.where, ": a key is missing here");
    for (const auto& [name, value] : frame.value.members) {
      if (name == key.text)
        throw Error(ErrorKind::kConfig, key.where, ": key '", name, "' is given twice, before at ", value.where);
    }
    frame.pending_key = key.text;
    frame.pending_where = key.where;
    frame.has_key = true;
  }

  std::string source_;
  ConfigValue root_;
  std::vector<Frame> frames_;
};

// YAML 1.1 allows '_' between digits.
std::string without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (text[i] != '_' || i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) out += text[i];
  }
  return out;
}

template <typename Number>
bool parse_number(const std::string& written, Number& out) {
  const std::string plain = without_underscores(written);
  std::string_view text = plain;
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

void ConfigValue::fail(std::string_view expected) const {
  std::string shown = kind == Kind::kNull   ? "nothing"
                      : kind == Kind::kList ? "a list"
                      : kind == Kind::kMap  ? "a map"
                                            : "";
  if (kind == Kind::kScalar) {
    const bool cut = text.size() > kShownBytes;
    shown = "'" + text.substr(0, kShownBytes) + (cut ? "…'" : "'");
    std::ranges::replace_if(
        shown, [](char c) { return static_cast<unsigned char>(c) < ' '; }, '?');
  }
  throw Error(ErrorKind::kConfig, where, ": key '", key, "': got ", shown, ", expected ", expected);
}

std::string ConfigValue::as_text() const {
  if (kind != Kind::kScalar) fail("a text");
  if (text.find('\0') != std::string::npos) fail("a text without NUL bytes");
  return text;
}

std::int64_t ConfigValue::as_whole() const {
  std::int64_t out = 0;
  if (kind != Kind::kScalar || !parse_number(text, out)) fail("a whole number");
  return out;
}

double ConfigValue::as_number() const {
  double out = 0;
  if (kind != Kind::kScalar || !parse_number(text, out) || !std::isfinite(out)) fail("a number");
  return out;
}

bool ConfigValue::as_bool() const {
  const std::string lower = lower_text();
  for (const std::string_view word : {"true", "yes", "on", "1"})
    if (lower == word) return true;
  for (const std::string_view word : {"false", "no", "off", "0"})
    if (lower == word) return false;
  fail("true or false");
}

std::string ConfigValue::lower_text() const {
  std::string lower;
  if (kind == Kind::kScalar)
    for (const char c : text) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return lower;
}

bool ConfigValue::is_empty() const {
  return kind == Kind::kNull || (kind == Kind::kScalar && (text.empty() || text == "None"));
}

bool ConfigValue::is_off() const {
  if (is_empty()) return true;
  if (kind == Kind::kList) return items.empty();
  if (kind == Kind::kMap) return members.empty();
  const std::string lower = lower_text();
  double number = 1;
  return lower == "false" || lower == "no" || lower == "off" || lower == "none" ||
         (parse_number(text, number) && number == 0);
}

std::vector<std::string> ConfigValue::as_texts() const {
  std::vector<std::string> out;
  if (kind == Kind::kList) {
    for (const ConfigValue& item : items) {
      out.push_back(item.as_text());
      if (out.back().empty()) item.fail("a name");
    }
    return out;
  }
  if (kind != Kind::kScalar) fail("a list of names");
  std::istringstream pieces(as_text());
  for (std::string piece; std::getline(pieces, piece, ',');) {
    const auto begin = piece.find_first_not_of(' ');
    if (begin == std::string::npos) fail("names with commas between them");
    out.push_back(piece.substr(begin, piece.find_last_not_of(' ') - begin + 1));
  }
  return out;
}

ConfigValue parse_config_yaml(std::string_view text, const std::string& source) {
  if (text.size() > kMaxBytes)
    throw Error(ErrorKind::kConfig, source, ": ", text.size(), " bytes, a config has at most ", kMaxBytes);
  Builder builder(source);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      Builder rest(source);
      if (parser.HandleNextDocument(rest))
        throw Error(ErrorKind::kConfig, source, ": holds several YAML documents, expected one");
    }
  } catch (const YAML::Exception& error) {
    throw Error(ErrorKind::kConfig, place(source, error.mark), ": not valid YAML: ", error.msg);
  }
  ConfigValue root = builder.take();
  if (root.kind != ConfigValue::Kind::kMap && root.kind != ConfigValue::Kind::kNull)
    throw Error(ErrorKind::kConfig, source, ": expected lines of the form 'key: value'");
  return root;
}

ConfigValue parse_flag_value(const std::string& key, const std::string& flag, const std::string& text) {
  ConfigValue value;
  if (!text.empty() && (text.front() == '[' || text.front() == '{')) {
    // A regex may begin with a bracket as well: it is no YAML list unless it also ends as one.
    const char closing = text.front() == '[' ? ']' : '}';
    if (text.back() == closing) {
      ConfigValue root = parse_config_yaml(key + ": " + text, flag);
      value = std::move(root.members.at(0).value);
      value.where = flag;
      return value;
    }
  }
  value.kind = text == "null" ? ConfigValue::Kind::kNull : ConfigValue::Kind::kScalar;
  value.text = text;
  value.where = flag;
  value.key = key;
  return value;
}

}  // namespace bezel::train
